//! `Glob`: which file names of a folder a mapping reads. `*` is any text, `?` one character,
//! `[a-z]` and `[!a-z]` one of a set, `{csv,txt}` one of several. A name that begins with a dot is
//! hidden: only a pattern that begins with one finds it.

/// Alternatives that the braces of one pattern may make.
const ALTERNATIVES_MAX: usize = 256;

/// A pattern for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// Without braces.
    alternatives: Vec<Vec<char>>,
}

impl Glob {
    /// A pattern; the error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.contains('/') {
            return Err("a pattern for names of files, without \"/\"");
        }
        let mut alternatives = Vec::new();
        expand(String::new(), text, &mut alternatives)?;
        let alternatives: Vec<Vec<char>> =
            alternatives.iter().map(|text| text.chars().collect()).collect();
        if alternatives.iter().any(|pattern| !has_closed_sets(pattern)) {
            return Err("a pattern in which every \"[\" is closed");
        }
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a name fits.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        self.alternatives.iter().any(|pattern| {
            let is_hidden = name.first() == Some(&'.') && pattern.first() != Some(&'.');
            !is_hidden && matches(pattern, &name)
        })
    }

    /// The name with `text` in the place of the only `*`; `None` if the pattern is another kind.
    pub fn filled(&self, text: &str) -> Option<String> {
        let is_plain = |c: char| !matches!(c, '*' | '?' | '[' | ']' | '{' | '}');
        let (before, behind) = self.text.split_once('*')?;
        let is_fit = !before.starts_with('.') && before.chars().chain(behind.chars()).all(is_plain);
        is_fit.then(|| format!("{before}{text}{behind}"))
    }
}

/// Writes out the braces.
fn expand(before: String, rest: &str, out: &mut Vec<String>) -> Result<(), &'static str> {
    let Some(open) = rest.find('{') else {
        if out.len() == ALTERNATIVES_MAX {
            return Err("fewer alternatives in braces");
        }
        out.push(before + rest);
        return Ok(());
    };
    let (head, tail) = (&rest[..open], &rest[open + 1..]);
    let close = tail.find('}').ok_or("a pattern in which every \"{\" is closed")?;
    if tail[..close].contains('{') {
        return Err("braces that are not inside each other");
    }
    for choice in tail[..close].split(',') {
        expand(format!("{before}{head}{choice}"), &tail[close + 1..], out)?;
    }
    Ok(())
}

fn has_closed_sets(pattern: &[char]) -> bool {
    let mut rest = pattern;
    while let Some(open) = rest.iter().position(|c| *c == '[') {
        match set_end(&rest[open..]) {
            Some(end) => rest = &rest[open + end..],
            None => return false,
        }
    }
    true
}

/// Length of the set that begins here; a `]` right behind the opening is one of the set.
fn set_end(pattern: &[char]) -> Option<usize> {
    let first = if pattern.get(1) == Some(&'!') { 3 } else { 2 };
    pattern.iter().skip(first).position(|c| *c == ']').map(|end| first + end + 1)
}

fn is_in_set(set: &[char], c: char) -> bool {
    let inner = &set[1..set.len() - 1];
    let (is_negated, inner) = match inner.split_first() {
        Some(('!', rest)) => (true, rest),
        _ => (false, inner),
    };
    let mut is_in = false;
    let mut at = 0;
    while at < inner.len() {
        if at + 2 < inner.len() && inner[at + 1] == '-' {
            is_in |= (inner[at]..=inner[at + 2]).contains(&c);
            at += 3;
        } else {
            is_in |= inner[at] == c;
            at += 1;
        }
    }
    is_in != is_negated
}

/// The last `*` met is the only one that is ever tried again, so time is at most pattern × name.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            None if n == name.len() => return true,
            None => None,
            Some('?') if n < name.len() => Some(1),
            Some('[') if n < name.len() => {
                set_end(&pattern[p..]).filter(|end| is_in_set(&pattern[p..p + end], name[n]))
            }
            Some(c) => (name.get(n) == Some(c)).then_some(1),
        };
        match (step, &mut star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((star_p, star_n))) if *star_n < name.len() => {
                *star_n += 1;
                (p, n) = (*star_p + 1, *star_n);
            }
            (None, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_names_as_in_a_shell() {
        let cases = [
            ("*", "a.csv", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXbcd", false),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("[]]", "]", true),
            ("x[0-9][0-9]", "x42", true),
            ("t.{csv,json}", "t.json", true),
            ("t.{csv,json}", "t.txt", false),
            ("é*", "éa", true),
            ("abc", "abc", true),
        ];
        for (pattern, name, is_found) in cases {
            assert_eq!(Glob::new(pattern).unwrap().matches(name), is_found, "{pattern} {name}");
        }
        let slow = Glob::new(&"*a".repeat(50)).unwrap();
        assert!(!slow.matches(&format!("{}b", "a".repeat(200))));
    }

    #[test]
    fn patterns_that_cannot_be_are_refused() {
        let many = "{a,b}".repeat(9);
        for pattern in ["", "a/b", "[a", "{a", "{a{b}}", many.as_str()] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_with_one_star_makes_names() {
        let filled = |pattern: &str| Glob::new(pattern).unwrap().filled("7");
        assert_eq!(filled("*"), Some("7".to_owned()));
        assert_eq!(filled("t-*.csv"), Some("t-7.csv".to_owned()));
        for pattern in ["t.csv", "*-*", "*.?", "*.{a,b}", "[a]*", ".*"] {
            assert_eq!(filled(pattern), None, "{pattern}");
        }
    }
}
