//! Regular expressions as PostgreSQL has them, and the functions over them. A pattern is compiled
//! once and kept by the thread that uses it; no row allocates but what it answers.
//!
//! PostgreSQL's own escapes are written the way the `regex` crate knows them (`\m` is a word's
//! beginning, `\y` its edge); `.` matches a newline, `^` and `$` only the whole text's ends. What
//! that crate has not (lookaround, back references) is refused with 2201B.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, ListBuilder, StringArray, StringBuilder},
    compute::cast,
    datatypes::{DataType, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
};
use regex::{CaptureLocations, Captures, Regex, RegexBuilder};

use super::{
    arithmetic::no_function,
    error::user_error,
    function::{Function, answer},
    session::text_list,
};

/// Patterns a thread keeps compiled.
const PATTERNS_KEPT: usize = 16;

/// Bytes a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// All functions of this family.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Function::new("regexp_match", |_| Ok(text_list()), regexp_match)
            .coerced(|types| texts("regexp_match", types, 2..=3))
            .build(),
        Function::new("regexp_group", |_| Ok(DataType::Utf8), regexp_group)
            .coerced(group_types)
            .build(),
        Function::new("regexp_replace", |_| Ok(DataType::Utf8), regexp_replace)
            .coerced(|types| texts("regexp_replace", types, 3..=4))
            .build(),
        Function::new("regexp_split_to_array", |_| Ok(text_list()), regexp_split)
            .coerced(|types| texts("regexp_split_to_array", types, 2..=3))
            .build(),
        Function::new("substring_pattern", |_| Ok(DataType::Utf8), substring_pattern)
            .coerced(|types| texts("substring", types, 2..=2))
            .build(),
        Function::new("similar_to", |_| Ok(DataType::Boolean), similar_to)
            .coerced(|types| texts("similar_to", types, 2..=3))
            .build(),
    ]
}

fn texts(
    name: &str,
    types: &[DataType],
    counts: std::ops::RangeInclusive<usize>,
) -> Result<Vec<DataType>> {
    let is_text = |data_type: &DataType| {
        crate::rules::operators::is_text(data_type) || *data_type == DataType::Null
    };
    match counts.contains(&types.len()) && types.iter().all(is_text) {
        true => Ok(vec![DataType::Utf8; types.len()]),
        false => Err(no_function(name, types)),
    }
}

fn group_types(types: &[DataType]) -> Result<Vec<DataType>> {
    let Some((group, rest)) = types.split_last() else {
        return Err(no_function("regexp_match", types));
    };
    let mut coerced = texts("regexp_match", rest, 2..=3)?;
    if !group.is_integer() {
        return Err(user_error("42804", "array subscript must have type integer"));
    }
    coerced.push(DataType::Int64);
    Ok(coerced)
}

/// How a pattern is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Options {
    is_case_blind: bool,
    is_global: bool,
    is_by_line: bool,
    is_extended: bool,
}

impl Options {
    fn read(flags: &str) -> Result<Self> {
        let mut options = Self::default();
        for flag in flags.chars() {
            match flag {
                'i' => options.is_case_blind = true,
                'c' => options.is_case_blind = false,
                'g' => options.is_global = true,
                'n' | 'm' => options.is_by_line = true,
                's' => options.is_by_line = false,
                'x' => options.is_extended = true,
                't' => options.is_extended = false,
                other => {
                    let message = format!("invalid regular expression option: \"{other}\"");
                    return Err(user_error("22023", message));
                }
            }
        }
        Ok(options)
    }
}

thread_local! {
    /// The patterns this thread used last, newest at the end.
    static COMPILED: RefCell<Vec<(String, Options, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// The compiled pattern, found among those this thread used last.
fn compiled(pattern: &str, options: Options) -> Result<Rc<Regex>> {
    COMPILED.with_borrow_mut(|kept| {
        let found = kept.iter().position(|(text, of, _)| text == pattern && *of == options);
        if let Some(index) = found {
            let entry = kept.remove(index);
            let regex = Rc::clone(&entry.2);
            kept.push(entry);
            return Ok(regex);
        }
        let regex = Rc::new(compile(pattern, options)?);
        if kept.len() == PATTERNS_KEPT {
            kept.remove(0);
        }
        kept.push((pattern.to_owned(), options, Rc::clone(&regex)));
        Ok(regex)
    })
}

fn compile(pattern: &str, options: Options) -> Result<Regex> {
    RegexBuilder::new(&translated(pattern))
        .case_insensitive(options.is_case_blind)
        .multi_line(options.is_by_line)
        .dot_matches_new_line(!options.is_by_line)
        .ignore_whitespace(options.is_extended)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            let cause = text.lines().last().unwrap_or_default();
            let cause = cause.strip_prefix("error: ").unwrap_or(cause);
            user_error("2201B", format!("invalid regular expression: {cause}"))
        })
}

/// PostgreSQL's escapes as the `regex` crate writes them.
fn translated(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('m') => text.push_str(r"\b{start}"),
            Some('M') => text.push_str(r"\b{end}"),
            Some('y') => text.push_str(r"\b"),
            Some('Y') => text.push_str(r"\B"),
            Some('Z') => text.push_str(r"\z"),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

/// The text arguments of a call, one value a row.
struct TextArguments {
    arrays: Vec<ArrayRef>,
    row_count: usize,
}

impl TextArguments {
    fn of(args: &ScalarFunctionArgs, count: usize) -> Result<Self> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let row_count = if is_constant { 1 } else { args.number_rows };
        let arrays = args
            .args
            .iter()
            .take(count)
            .map(|arg| Ok(cast(&arg.to_array(row_count)?, &DataType::Utf8)?));
        Ok(Self { arrays: arrays.collect::<Result<_>>()?, row_count })
    }

    fn column(&self, index: usize) -> &StringArray {
        self.arrays[index].as_string::<i32>()
    }

    /// The value at a row; `None` if NULL.
    fn get(&self, index: usize, row: usize) -> Option<&str> {
        let column = self.column(index);
        column.is_valid(row).then(|| column.value(row))
    }

    /// Calls `each` for every row with its text and compiled pattern; `None` for a NULL.
    fn for_each(
        &self,
        flags: Option<usize>,
        mut each: impl FnMut(usize, Option<(&str, &Regex, Options)>) -> Result<()>,
    ) -> Result<()> {
        let mut last: Option<((&str, &str), Options, Rc<Regex>)> = None;
        for row in 0..self.row_count {
            let flag = flags.map_or(Some(""), |index| self.get(index, row));
            let (Some(text), Some(pattern), Some(flag)) =
                (self.get(0, row), self.get(1, row), flag)
            else {
                each(row, None)?;
                continue;
            };
            let (key, options, regex) = match last.take() {
                Some(known) if known.0 == (pattern, flag) => known,
                _ => {
                    let options = Options::read(flag)?;
                    let of_pattern = Options { is_global: false, ..options };
                    ((pattern, flag), options, compiled(pattern, of_pattern)?)
                }
            };
            each(row, Some((text, &regex, options)))?;
            last = Some((key, options, regex));
        }
        Ok(())
    }
}

fn refuse_global(options: Options, function: &str) -> Result<()> {
    if !options.is_global {
        return Ok(());
    }
    let message = format!("{function}() does not support the \"global\" option");
    Err(user_error("22023", message))
}

/// The groups of the first match, or the match itself if there are none.
fn regexp_match(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = TextArguments::of(args, args.args.len())?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    texts.for_each((args.args.len() == 3).then_some(2), |_, row| {
        let Some((text, regex, options)) = row else {
            lists.append_null();
            return Ok(());
        };
        refuse_global(options, "regexp_match")?;
        match regex.captures(text) {
            Some(captures) => append_groups(&captures, &mut lists),
            None => lists.append_null(),
        }
        Ok(())
    })?;
    answer(args, Arc::new(lists.finish()))
}

fn append_groups(captures: &Captures, lists: &mut ListBuilder<StringBuilder>) {
    let first = usize::from(captures.len() > 1);
    for group in captures.iter().skip(first) {
        lists.values().append_option(group.map(|found| found.as_str()));
    }
    lists.append(true);
}

/// `(regexp_match(text, pattern[, flags]))[n]` without the array.
fn regexp_group(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let count = args.args.len() - 1;
    let texts = TextArguments::of(args, count)?;
    let groups = args.args[count].to_array(texts.row_count)?;
    let groups: &Int64Array = groups.as_primitive::<Int64Type>();
    let bytes = texts.column(0).value_data().len();
    let mut found = StringBuilder::with_capacity(texts.row_count, bytes / 2);
    let mut locations: Option<CaptureLocations> = None;
    texts.for_each((count == 3).then_some(2), |row, values| {
        let Some((text, regex, options)) = values.filter(|_| groups.is_valid(row)) else {
            found.append_null();
            return Ok(());
        };
        refuse_global(options, "regexp_match")?;
        let places = match &mut locations {
            Some(places) if places.len() == regex.captures_len() => places,
            other => other.insert(regex.capture_locations()),
        };
        // Without groups the match itself is the only element.
        let offset = i64::from(places.len() == 1);
        let group = usize::try_from(groups.value(row) - offset).ok();
        let group = group.filter(|group| *group >= 1 || offset == 1);
        let is_match = regex.captures_read(places, text).is_some();
        let place = group.filter(|_| is_match).and_then(|group| places.get(group));
        found.append_option(place.map(|(start, end)| &text[start..end]));
        Ok(())
    })?;
    answer(args, Arc::new(found.finish()))
}

/// The first match replaced, or all with `g`. In the replacement `\1` is a group, `\&` the match.
fn regexp_replace(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = TextArguments::of(args, args.args.len())?;
    let mut replaced = StringBuilder::new();
    texts.for_each((args.args.len() == 4).then_some(3), |row, values| {
        let (Some((text, regex, options)), Some(template)) = (values, texts.get(2, row)) else {
            replaced.append_null();
            return Ok(());
        };
        let limit = if options.is_global { 0 } else { 1 };
        let expand = |captures: &Captures| expanded(template, captures);
        replaced.append_value(regex.replacen(text, limit, expand));
        Ok(())
    })?;
    answer(args, Arc::new(replaced.finish()))
}

fn expanded(template: &str, captures: &Captures) -> String {
    let mut text = String::with_capacity(template.len());
    let group = |index: usize| captures.get(index).map_or("", |found| found.as_str());
    let mut characters = template.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('&') => text.push_str(group(0)),
            Some(digit @ '1'..='9') => text.push_str(group(digit as usize - '0' as usize)),
            Some('\\') => text.push('\\'),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

/// The pieces between the matches. An empty match at either end makes no piece.
fn regexp_split(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = TextArguments::of(args, args.args.len())?;
    let mut lists = ListBuilder::new(StringBuilder::new());
    texts.for_each((args.args.len() == 3).then_some(2), |_, row| {
        let Some((text, regex, options)) = row else {
            lists.append_null();
            return Ok(());
        };
        refuse_global(options, "regexp_split_to_array")?;
        let mut begin = 0;
        for found in regex.find_iter(text) {
            let is_edge = found.is_empty() && (found.start() == 0 || found.end() == text.len());
            if !is_edge {
                lists.values().append_value(&text[begin..found.start()]);
                begin = found.end();
            }
        }
        lists.values().append_value(&text[begin..]);
        lists.append(true);
        Ok(())
    })?;
    answer(args, Arc::new(lists.finish()))
}

/// `substring(text FROM pattern)`: the first group of the first match, or the match.
fn substring_pattern(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = TextArguments::of(args, 2)?;
    let mut found = StringBuilder::new();
    texts.for_each(None, |_, row| {
        let captures = row.and_then(|(text, regex, _)| regex.captures(text));
        let group = captures.as_ref().and_then(|captures| {
            captures.get(usize::from(captures.len() > 1)).map(|found| found.as_str())
        });
        found.append_option(group);
        Ok(())
    })?;
    answer(args, Arc::new(found.finish()))
}

/// `text SIMILAR TO pattern [ESCAPE e]`.
fn similar_to(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = TextArguments::of(args, args.args.len())?;
    let mut answers = arrow::array::BooleanBuilder::with_capacity(texts.row_count);
    let mut last: Option<(&str, Option<char>, Rc<Regex>)> = None;
    for row in 0..texts.row_count {
        let escape = if args.args.len() == 3 { texts.get(2, row) } else { Some("\\") };
        let (Some(text), Some(pattern), Some(escape)) =
            (texts.get(0, row), texts.get(1, row), escape)
        else {
            answers.append_null();
            continue;
        };
        let escape = escape_character(escape)?;
        let entry = match last.take() {
            Some(known) if known.0 == pattern && known.1 == escape => known,
            _ => (pattern, escape, compiled(&of_similar(pattern, escape), Options::default())?),
        };
        answers.append_value(entry.2.is_match(text));
        last = Some(entry);
    }
    answer(args, Arc::new(answers.finish()))
}

fn escape_character(escape: &str) -> Result<Option<char>> {
    let mut characters = escape.chars();
    let first = characters.next();
    match characters.next() {
        None => Ok(first),
        Some(_) => Err(user_error("22025", "invalid escape string")),
    }
}

/// A SIMILAR TO pattern as a regular expression over the whole text.
fn of_similar(pattern: &str, escape: Option<char>) -> String {
    let mut text = String::from("^(?:");
    let mut is_in_set = false;
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            _ if Some(character) == escape => {
                if let Some(next) = characters.next() {
                    text.push_str(&regex::escape(&next.to_string()));
                }
            }
            ']' if is_in_set => {
                is_in_set = false;
                text.push(']');
            }
            _ if is_in_set => text.push(character),
            '[' => {
                is_in_set = true;
                text.push('[');
            }
            '%' => text.push_str(".*"),
            '_' => text.push('.'),
            '.' | '^' | '$' | '\\' => text.extend(['\\', character]),
            other => text.push(other),
        }
    }
    text.push_str(")$");
    text
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::{error_of, value_of};

    #[test]
    fn a_match_answers_its_groups_with_nulls_for_those_that_took_no_part() {
        assert_eq!(value_of("SELECT regexp_match('ab', '(a)|(c)')::text"), "{a,NULL}");
        assert_eq!(value_of("SELECT regexp_match('foobar', 'o+')::text"), "{oo}");
        assert_eq!(value_of("SELECT (regexp_match('k=v', '(\\w)=(\\w)'))[2]"), "v");
        assert_eq!(value_of("SELECT (regexp_match('foobar', 'o+'))[1]"), "oo");
        assert_eq!(value_of("SELECT (regexp_match('foobar', 'o+'))[2] IS NULL"), "true");
        assert_eq!(value_of("SELECT (regexp_match('x', 'y'))[1] IS NULL"), "true");
        assert_eq!(value_of("SELECT (regexp_match('ABC', 'b', 'i'))[1]"), "B");
    }

    #[test]
    fn patterns_are_postgres_own() {
        assert_eq!(
            value_of("SELECT regexp_replace('foobarbaz', 'b(..)', 'X\\1Y', 'g')"),
            "fooXarYXazY"
        );
        assert_eq!(value_of("SELECT regexp_replace('a.b', '\\.', '[\\&]')"), "a[.]b");
        assert_eq!(value_of("SELECT regexp_split_to_array('a  b c', '\\s+')::text"), "{a,b,c}");
        assert_eq!(value_of("SELECT substring('foobar' FROM 'o(.)b')"), "o");
        assert_eq!(value_of("SELECT regexp_replace('one two', '\\mt', 'T')"), "one Two");
        assert!(error_of("SELECT regexp_match('a', '[')").starts_with("2201B invalid regular"));
        assert!(error_of("SELECT regexp_match('a', 'a', 'g')").starts_with("22023 "));
    }

    #[test]
    fn similar_to_speaks_of_the_whole_text() {
        assert_eq!(value_of("SELECT 'abc' SIMILAR TO '(a|b)%'"), "true");
        assert_eq!(value_of("SELECT 'abc' SIMILAR TO 'a'"), "false");
        assert_eq!(value_of("SELECT 'abc' NOT SIMILAR TO '%b%'"), "false");
        assert_eq!(
            value_of("SELECT 'a.c' SIMILAR TO 'a.c' AND NOT 'abc' SIMILAR TO 'a.c'"),
            "true"
        );
        assert_eq!(value_of("SELECT '%' SIMILAR TO '#%' ESCAPE '#'"), "true");
    }
}
