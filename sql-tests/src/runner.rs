//! Plays a `.slt` file against a server process of its own.
//! A failing step is reported with the file's line; the server is killed either way.

use std::path::Path;

use sqllogictest::{DefaultColumnType, MakeConnection, Record, Runner, parse_with_name};
use tempfile::TempDir;

use crate::{
    client::Connection,
    kafka::Broker,
    process::{ServerOptions, ServerProcess, now},
    script::{self, Action, Step},
};

/// Pause between two tries of a `wait` step.
const POLL_INTERVAL: std::time::Duration = std::time::Duration::from_millis(20);

/// Everything a playing file has around it.
struct Stage {
    options: ServerOptions,
    /// The folder of --file-root; gone with the stage.
    files: TempDir,
    server: Option<ServerProcess>,
    broker: Option<Broker>,
}

/// Plays the file; the error is ready to be printed.
pub fn play(file: &Path, options: &ServerOptions) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let steps = script::parse(&text)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let files = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = ServerOptions { file_root: Some(files.path().to_owned()), ..options.clone() };
    let mut stage = Stage { options, files, server: None, broker: None };
    runtime.block_on(stage.play(&steps, &file.display().to_string()))
}

impl Stage {
    async fn play(&mut self, steps: &[Step], name: &str) -> Result<(), String> {
        self.start_server()?;
        let mut clients = connections(self.port()?);
        for step in steps {
            let place = |message: String| format!("{name}:{}: {message}", step.line);
            match &step.action {
                Action::Run(text) => {
                    for record in self.records(text, name, step.line).map_err(place)? {
                        clients.run_async(record).await.map_err(|error| error.to_string())?;
                    }
                }
                Action::Wait(limit, text) => {
                    let records = self.records(text, name, step.line).map_err(place)?;
                    for record in records {
                        wait(&mut clients, &record, *limit).await.map_err(place)?;
                    }
                }
                action => {
                    self.direct(action).map_err(place)?;
                    if matches!(action, Action::ServerStart | Action::ServerRestart) {
                        clients = connections(self.port()?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Directives to the server and the broker.
    fn direct(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::ServerKill => {
                let mut server = self.server.take().ok_or("no server runs")?;
                server.kill().map_err(|error| error.to_string())
            }
            Action::ServerStart => self.start_server(),
            Action::ServerRestart => {
                let mut server = self.server.take().ok_or("no server runs")?;
                let (is_clean, _) = server.stop().map_err(|error| error.to_string())?;
                if !is_clean {
                    return Err("the server did not end cleanly".to_owned());
                }
                self.start_server()
            }
            Action::KafkaTopic(topic, count) => self.broker()?.create_topic(topic, *count),
            Action::KafkaSend(topic, partition, payloads) => {
                self.broker()?.send(topic, *partition, payloads)
            }
            Action::Folder(path) => self.folder(path),
            Action::File(path, lines) => self.file(path, lines),
            Action::Link(path, target) => {
                let link = std::os::unix::fs::symlink(target, self.files.path().join(path));
                link.map_err(|error| format!("{path}: {error}"))
            }
            Action::KafkaDown => self.broker()?.set_down(),
            Action::KafkaUp => self.broker()?.set_up(),
            Action::Run(_) | Action::Wait(..) => Ok(()),
        }
    }

    fn folder(&self, path: &str) -> Result<(), String> {
        let folder = self.files.path().join(path);
        std::fs::create_dir_all(folder).map_err(|error| format!("{path}: {error}"))
    }

    fn file(&self, path: &str, lines: &[String]) -> Result<(), String> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.files.path().join(path), text)
            .map_err(|error| format!("{path}: {error}"))
    }

    fn start_server(&mut self) -> Result<(), String> {
        if self.server.is_some() {
            return Err("a server runs already".to_owned());
        }
        let server = ServerProcess::start(&self.options).map_err(|error| error.to_string())?;
        self.server = Some(server);
        Ok(())
    }

    fn port(&self) -> Result<u16, String> {
        Ok(self.server.as_ref().ok_or("no server runs")?.port())
    }

    fn broker(&mut self) -> Result<&Broker, String> {
        if self.broker.is_none() {
            self.broker = Some(Broker::start()?);
        }
        self.broker.as_ref().ok_or_else(|| "no broker".to_owned())
    }

    /// Parses plain text, with `$KAFKA` and `$FILES` put in and line numbers of the file.
    fn records(
        &mut self,
        text: &str,
        name: &str,
        line: usize,
    ) -> Result<Vec<Record<DefaultColumnType>>, String> {
        let text = match text.contains("$KAFKA") {
            true => text.replace("$KAFKA", &self.broker()?.address()),
            false => text.to_owned(),
        };
        let text = text.replace("$FILES", &self.files.path().display().to_string());
        let padded = "\n".repeat(line - 1) + &text;
        let records = parse_with_name(&padded, name).map_err(|error| error.to_string())?;
        let is_padding = |record: &Record<_>| matches!(record, Record::Newline);
        Ok(records.into_iter().filter(|record| !is_padding(record)).collect())
    }
}

/// A runner whose connections (one for each `connection` name) go to the server on `port`.
fn connections(port: u16) -> Runner<Connection, impl MakeConnection<Conn = Connection>> {
    Runner::new(move || Connection::open(port))
}

/// Runs one record until it passes; the last failure is the answer when time is up.
async fn wait<M: MakeConnection<Conn = Connection>>(
    connections: &mut Runner<Connection, M>,
    record: &Record<DefaultColumnType>,
    limit: std::time::Duration,
) -> Result<(), String> {
    let deadline = now() + limit;
    loop {
        let failure = match connections.run_async(record.clone()).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        if now() > deadline {
            return Err(format!("not within {} s: {failure}", limit.as_secs()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
