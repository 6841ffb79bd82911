//! What a `.slt` file may say beyond sqllogictest, and how it is cut into steps.
//!
//! ```text
//! wait 10 query I            run the query until its rows are as expected, at most 10 s
//! wait 10 statement ok       the same for a statement (or `statement error …`)
//! server kill                SIGKILL; the next `server start` starts an empty one
//! server start
//! server restart             SIGTERM, then start
//! kafka topic trades 4       makes a topic with 4 topic partitions on the mock broker
//! kafka send trades 0        sends the following lines, up to an empty one, to topic partition 0
//! kafka down | kafka up      the broker stops answering; answers again
//! folder out                 makes a folder beneath the server's --file-root
//! file in/a.csv              writes the following lines, up to an empty one, into a file there
//! link in/b.csv /etc/hosts   makes a symbolic link there
//! query T \notices          what the statement before was told: `NOTICE …`, `WARNING …`
//! ```
//! `$KAFKA` in any statement becomes the mock broker's address, `$FILES` the folder of --file-root,
//! which every file has for itself. Everything else is sqllogictest's.

use std::time::Duration;

/// One step of a file, with the 1-based line it begins at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Line number.
    pub line: usize,
    /// What to do.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Plain sqllogictest text, run once.
    Run(String),
    /// One sqllogictest record, run until it passes.
    Wait(Duration, String),
    /// SIGKILL to the server.
    ServerKill,
    /// Starts a server.
    ServerStart,
    /// SIGTERM, then start.
    ServerRestart,
    /// Makes a topic: name, topic partitions.
    KafkaTopic(String, i32),
    /// Sends messages: topic, topic partition, payloads.
    KafkaSend(String, i32, Vec<String>),
    /// The broker stops answering.
    KafkaDown,
    /// The broker answers again.
    KafkaUp,
    /// Makes a folder.
    Folder(String),
    /// Writes a file: path, lines.
    File(String, Vec<String>),
    /// Makes a symbolic link: path, where it leads.
    Link(String, String),
}

/// Cuts a file into steps.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut steps = Vec::new();
    let mut plain = String::new();
    let mut plain_line = 1;
    let mut index = 0;
    while index < lines.len() {
        let words: Vec<&str> = lines[index].split_whitespace().collect();
        let is_directive = matches!(
            words.first(),
            Some(&("wait" | "server" | "kafka" | "folder" | "file" | "link"))
        );
        if !is_directive {
            if plain.is_empty() {
                plain_line = index + 1;
            }
            plain.push_str(lines[index]);
            plain.push('\n');
            index += 1;
            continue;
        }
        if !plain.trim().is_empty() {
            steps.push(Step { line: plain_line, action: Action::Run(std::mem::take(&mut plain)) });
        }
        plain.clear();
        let line = index + 1;
        let block = block_end(&lines, index);
        let (action, used) = directive(&words, &lines[index..block])
            .map_err(|message| format!("line {line}: {message}"))?;
        steps.push(Step { line, action });
        index += used;
    }
    if !plain.trim().is_empty() {
        steps.push(Step { line: plain_line, action: Action::Run(plain) });
    }
    Ok(steps)
}

/// Index of the empty line (or the end) that closes the block beginning at `start`.
fn block_end(lines: &[&str], start: usize) -> usize {
    let end = lines[start..].iter().position(|line| line.trim().is_empty());
    end.map_or(lines.len(), |length| start + length)
}

/// One directive and the number of lines it takes.
fn directive(words: &[&str], block: &[&str]) -> Result<(Action, usize), String> {
    let action = match words {
        ["wait", seconds, rest @ ..] if !rest.is_empty() => {
            let seconds: u64 = seconds.parse().map_err(|_| "wait needs seconds".to_owned())?;
            let mut record = rest.join(" ");
            for line in &block[1..] {
                record.push('\n');
                record.push_str(line);
            }
            record.push('\n');
            return Ok((Action::Wait(Duration::from_secs(seconds), record), block.len()));
        }
        ["kafka", "send", topic, partition] => {
            let partition = partition.parse().map_err(|_| "not a topic partition".to_owned())?;
            let payloads = block[1..].iter().map(|line| (*line).to_owned()).collect();
            return Ok((Action::KafkaSend((*topic).to_owned(), partition, payloads), block.len()));
        }
        ["kafka", "topic", topic, count] => {
            let count = count.parse().map_err(|_| "not a number of topic partitions".to_owned())?;
            Action::KafkaTopic((*topic).to_owned(), count)
        }
        ["folder", path] => Action::Folder((*path).to_owned()),
        ["file", path] => {
            let lines = block[1..].iter().map(|line| (*line).to_owned()).collect();
            return Ok((Action::File((*path).to_owned(), lines), block.len()));
        }
        ["link", path, target] => Action::Link((*path).to_owned(), (*target).to_owned()),
        ["kafka", "down"] => Action::KafkaDown,
        ["kafka", "up"] => Action::KafkaUp,
        ["server", "kill"] => Action::ServerKill,
        ["server", "start"] => Action::ServerStart,
        ["server", "restart"] => Action::ServerRestart,
        _ => return Err(format!("unknown directive \"{}\"", words.join(" "))),
    };
    Ok((action, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_cut_plain_text_into_steps() {
        let text = "statement ok\nSELECT 1\n\nkafka topic t 2\nkafka send t 1\n{\"a\":1}\n{\"a\":2}\n\n\
                    file in/a.csv\n1,a\n2,b\n\nwait 5 query I\nSELECT 2\n----\n2\n\nserver kill\n";
        let actions: Vec<_> = parse(text).unwrap().into_iter().map(|step| step.action).collect();
        assert_eq!(
            actions,
            vec![
                Action::Run("statement ok\nSELECT 1\n\n".to_owned()),
                Action::KafkaTopic("t".to_owned(), 2),
                Action::KafkaSend(
                    "t".to_owned(),
                    1,
                    vec!["{\"a\":1}".to_owned(), "{\"a\":2}".to_owned()]
                ),
                Action::File("in/a.csv".to_owned(), vec!["1,a".to_owned(), "2,b".to_owned()]),
                Action::Wait(Duration::from_secs(5), "query I\nSELECT 2\n----\n2\n".to_owned()),
                Action::ServerKill,
            ]
        );
    }

    #[test]
    fn unknown_directive_names_its_line() {
        assert_eq!(
            parse("\nserver dance\n").unwrap_err(),
            "line 2: unknown directive \"server dance\""
        );
    }
}
