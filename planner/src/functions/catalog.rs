//! Functions that catalog queries call: names of types and objects, definitions, visibility,
//! privileges. What they would say of things that do not exist here (statistics, publications) is
//! NULL or false, as PostgreSQL answers for unknown oids.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray,
        StructArray, UInt32Array,
    },
    compute::cast,
    datatypes::{DataType, Field, Fields, Int64Type},
};
use datafusion::{
    error::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF},
    scalar::ScalarValue,
};

use super::{
    error::user_error,
    function::{Body, Function, TypeRule, answer, array_argument, constant_text},
    session::facts,
};
use crate::catalog::pg::{
    objects::{self, Object, SCHEMAS, quote_ident},
    relations::index_definition,
    types,
};

const TEXT: TypeRule = |_| Ok(DataType::Utf8);
const BOOL: TypeRule = |_| Ok(DataType::Boolean);
const OID: TypeRule = |_| Ok(DataType::UInt32);

/// All functions of this family. They read the catalog, so they are never folded while planning.
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let text = |name, body: Body| Function::new(name, TEXT, body).volatile().build();
    let null = |name| text(name, |_| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))));
    let truth = |name, body: Body| Function::new(name, BOOL, body).volatile().build();
    let yes: Body = |_| Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))));
    let no: Body = |_| Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(false))));
    let mut functions = vec![
        Function::new("format_type", TEXT, format_type).build(),
        Function::new("pg_encoding_to_char", TEXT, |args| {
            texts(args, |oid| (oid == 6).then(|| "UTF8".to_owned()))
        })
        .build(),
        Function::new("pg_char_to_encoding", |_| Ok(DataType::Int32), encoding_number).build(),
        Function::new("getdatabaseencoding", TEXT, |_| {
            Ok(ColumnarValue::Scalar(ScalarValue::from("UTF8")))
        })
        .build(),
        // Expressions are stored as SQL, so there is nothing to decompile.
        Function::new("pg_get_expr", TEXT, |args| Ok(args.args[0].clone())).build(),
        text("pg_get_userbyid", |args| {
            let user = facts(args)?.user.clone();
            texts(args, |oid| {
                Some(match oid == objects::OWNER {
                    true => user.clone(),
                    false => format!("unknown (OID={oid})"),
                })
            })
        }),
        text("pg_get_indexdef", index_text),
        text("pg_get_constraintdef", |args| {
            of_objects(args, |object, oid| {
                (object.constraint_oid() == oid && object.key().is_some())
                    .then(|| format!("PRIMARY KEY ({})", object.key_columns()))
            })
        }),
        text("pg_get_viewdef", |args| {
            of_objects(args, |object, oid| match &object.kind {
                objects::Kind::View(view) if object.oid == oid => Some(view.sql.clone()),
                _ => None,
            })
        }),
        text("reg_name", reg_name),
        Function::new("reg_oid", OID, reg_oid).volatile().build(),
        Function::new("to_regclass", OID, |args| optional_oid(args, "regclass")).volatile().build(),
        Function::new("to_regtype", OID, |args| optional_oid(args, "regtype")).volatile().build(),
        Function::new("to_regnamespace", OID, |args| optional_oid(args, "regnamespace"))
            .volatile()
            .build(),
        truth("pg_table_is_visible", |args| {
            of_objects_bool(args, |object| object.schema == objects::PUBLIC)
        }),
        truth("pg_relation_is_publishable", no),
        truth("pg_is_in_recovery", no),
        truth("pg_is_other_temp_schema", no),
        Function::new("pg_expanded_array", |_| Ok(expanded_type()), expand_array).build(),
        Function::new("quote_ident", TEXT, |args| strings(args, quote_ident)).build(),
        Function::new("quote_literal", TEXT, |args| strings(args, quote_literal)).build(),
        Function::new("pg_size_pretty", TEXT, |args| texts(args, |n| Some(size_pretty(n)))).build(),
        Function::new("pg_options_quoted", |_| Ok(super::session::text_list()), options_quoted)
            .build(),
    ];
    for name in [
        "pg_type_is_visible",
        "pg_function_is_visible",
        "pg_operator_is_visible",
        "pg_opclass_is_visible",
        "pg_opfamily_is_visible",
        "pg_statistics_obj_is_visible",
        "pg_ts_config_is_visible",
        "pg_ts_dict_is_visible",
        "pg_ts_parser_is_visible",
        "pg_ts_template_is_visible",
        "pg_collation_is_visible",
        "pg_conversion_is_visible",
        "pg_has_role",
        "has_table_privilege",
        "has_schema_privilege",
        "has_database_privilege",
        "has_column_privilege",
        "has_any_column_privilege",
        "has_function_privilege",
        "has_sequence_privilege",
        "has_type_privilege",
        "has_tablespace_privilege",
        "has_server_privilege",
        "has_foreign_data_wrapper_privilege",
        "has_language_privilege",
    ] {
        // There are no roles yet: whoever is connected may do everything.
        functions.push(truth(name, yes));
    }
    for name in [
        "obj_description",
        "shobj_description",
        "col_description",
        "pg_get_statisticsobjdef_columns",
        "pg_get_function_result",
        "pg_get_function_arguments",
        "pg_get_function_identity_arguments",
        "pg_get_functiondef",
        "pg_get_triggerdef",
        "pg_get_function_sqlbody",
        "pg_get_ruledef",
        "pg_get_partkeydef",
        "pg_get_serial_sequence",
        "pg_tablespace_location",
    ] {
        functions.push(null(name));
    }
    functions.push(
        Function::new("pg_database_size", |_| Ok(DataType::Int64), database_size)
            .volatile()
            .build(),
    );
    for name in ["pg_relation_size", "pg_table_size", "pg_total_relation_size"] {
        functions
            .push(Function::new(name, |_| Ok(DataType::Int64), relation_size).volatile().build());
    }
    functions
}

/// The first argument as oids or numbers; a text names a relation.
fn numbers(args: &ScalarFunctionArgs) -> Result<Int64Array> {
    let array = array_argument(args, 0)?;
    if array.data_type() == &DataType::Utf8 {
        let state = &facts(args)?.state;
        let objects = objects::objects(state);
        let found = array.as_string::<i32>().iter().map(|text| {
            let text = text?;
            text.parse().ok().or_else(|| objects::find(&objects, text).map(|object| object.oid))
        });
        return Ok(found.collect());
    }
    let array = cast(&array, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().clone())
}

/// UTF8 is number 6, under any of its spellings; there is no other.
fn encoding_number(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let names = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let number = |name: &str| match name.to_lowercase().as_str() {
        "utf8" | "utf-8" | "unicode" => 6,
        _ => -1,
    };
    let numbers = names.as_string::<i32>().iter().map(|name| name.map(number));
    answer(args, Arc::new(numbers.collect::<Int32Array>()))
}

fn texts(
    args: &ScalarFunctionArgs,
    text_of: impl Fn(i64) -> Option<String>,
) -> Result<ColumnarValue> {
    let numbers = numbers(args)?;
    let texts = numbers.iter().map(|number| number.and_then(&text_of));
    answer(args, Arc::new(texts.collect::<StringArray>()))
}

fn strings(args: &ScalarFunctionArgs, convert: fn(&str) -> String) -> Result<ColumnarValue> {
    let array = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let texts = array.as_string::<i32>().iter().map(|text| text.map(convert));
    answer(args, Arc::new(texts.collect::<StringArray>()))
}

fn of_objects(
    args: &ScalarFunctionArgs,
    text_of: impl Fn(&Object, i64) -> Option<String>,
) -> Result<ColumnarValue> {
    let objects = objects::objects(&facts(args)?.state);
    texts(args, |oid| objects.iter().find_map(|object| text_of(object, oid)))
}

/// `pg_get_indexdef(index)`: the whole definition; with a column's number, that column's name.
fn index_text(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if args.args.len() < 2 {
        return of_objects(args, |object, oid| {
            (object.key()?.0 == oid).then(|| index_definition(object))
        });
    }
    let objects = objects::objects(&facts(args)?.state);
    let columns = cast(&array_argument(args, 1)?, &DataType::Int64)?;
    let columns = columns.as_primitive::<Int64Type>();
    let text_of = |oid: i64, column: i64| {
        let key = |object: &&Object| object.key().is_some_and(|(index, _)| index == oid);
        let object = objects.iter().find(key)?;
        if column == 0 {
            return Some(index_definition(object));
        }
        let (_, positions) = object.key()?;
        let position = positions.get(usize::try_from(column - 1).ok()?)?;
        let column = object.columns.get(usize::try_from(position - 1).ok()?)?;
        Some(quote_ident(&column.name))
    };
    let pairs = numbers(args)?;
    let texts: StringArray =
        pairs.iter().zip(columns.iter()).map(|(oid, column)| text_of(oid?, column?)).collect();
    answer(args, Arc::new(texts))
}

fn of_objects_bool(
    args: &ScalarFunctionArgs,
    test: impl Fn(&Object) -> bool,
) -> Result<ColumnarValue> {
    let objects = objects::objects(&facts(args)?.state);
    let test_oid = |oid: i64| {
        let is_it = |object: &&Object| {
            object.oid == oid || object.key().is_some_and(|(index, _)| index == oid)
        };
        objects.iter().find(is_it).map(&test)
    };
    let answers = numbers(args)?.iter().map(|oid| oid.and_then(test_oid)).collect::<BooleanArray>();
    answer(args, Arc::new(answers))
}

fn format_type(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let oids = cast(&array_argument(args, 0)?, &DataType::Int64)?;
    let oids = oids.as_primitive::<Int64Type>();
    let modifiers = match args.args.len() {
        1 => arrow::array::new_null_array(&DataType::Int64, oids.len()),
        _ => cast(&array_argument(args, 1)?, &DataType::Int64)?,
    };
    let modifiers = modifiers.as_primitive::<Int64Type>();
    let pairs = oids.iter().zip(modifiers.iter());
    let names = pairs.map(|(oid, modifier)| oid.map(|oid| types::format_type(oid, modifier)));
    answer(args, Arc::new(names.collect::<StringArray>()))
}

/// `'t'::regclass` as a number; a number stays one. Arguments: the kind of object, the name.
fn reg_oid(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let kind = constant_text(args, 0).unwrap_or_default();
    let source = array_argument(args, 1)?;
    if source.data_type() != &DataType::Utf8 {
        return answer(args, cast(&source, &DataType::UInt32)?);
    }
    let find = finder(args, &kind)?;
    let mut oids = Vec::with_capacity(source.len());
    for name in source.as_string::<i32>() {
        let Some(name) = name else {
            oids.push(None);
            continue;
        };
        let oid = find(name).ok_or_else(|| missing(&kind, name))?;
        oids.push(Some(oid as u32));
    }
    answer(args, Arc::new(UInt32Array::from(oids)))
}

fn missing(kind: &str, name: &str) -> datafusion::error::DataFusionError {
    match kind {
        "regclass" => user_error("42P01", format!("relation \"{name}\" does not exist")),
        "regtype" => user_error("42704", format!("type \"{name}\" does not exist")),
        "regnamespace" => user_error("3F000", format!("schema \"{name}\" does not exist")),
        "regrole" => user_error("42704", format!("role \"{name}\" does not exist")),
        _ => user_error("42883", format!("function \"{name}\" does not exist")),
    }
}

fn optional_oid(args: &ScalarFunctionArgs, kind: &str) -> Result<ColumnarValue> {
    let find = finder(args, kind)?;
    let names = cast(&array_argument(args, 0)?, &DataType::Utf8)?;
    let oids = names.as_string::<i32>().iter().map(|name| find(name?).map(|oid| oid as u32));
    answer(args, Arc::new(oids.collect::<UInt32Array>()))
}

type Finder = Box<dyn Fn(&str) -> Option<i64>>;

fn finder(args: &ScalarFunctionArgs, kind: &str) -> Result<Finder> {
    let facts = facts(args)?;
    let user = facts.user.clone();
    let numeric = |name: &str| name.parse::<i64>().ok();
    Ok(match kind {
        "regclass" => {
            let objects = objects::objects(&facts.state);
            Box::new(move |name| {
                let found = || {
                    let relation = objects::find(&objects, name).map(|object| object.oid);
                    relation.or_else(|| objects::find_index(&objects, name))
                };
                numeric(name).or_else(found).or_else(|| objects::catalog_table_oid(name))
            })
        }
        "regtype" => Box::new(move |name| numeric(name).or_else(|| types::oid_by_name(name))),
        "regnamespace" => Box::new(move |name| {
            numeric(name)
                .or_else(|| SCHEMAS.iter().find(|(_, schema)| *schema == name).map(|(oid, _)| *oid))
        }),
        "regrole" => {
            Box::new(move |name| numeric(name).or_else(|| (name == user).then_some(objects::OWNER)))
        }
        _ => Box::new(move |name| numeric(name)),
    })
}

/// The name behind a number, or the number itself where nothing is. Arguments: the kind, the oid.
fn reg_name(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let kind = constant_text(args, 0).unwrap_or_default();
    let oids = cast(&array_argument(args, 1)?, &DataType::Int64)?;
    let facts = facts(args)?;
    let objects = objects::objects(&facts.state);
    let name_of = |oid: i64| -> String {
        let found = match kind.as_str() {
            "regclass" => objects.iter().find_map(|object| match object.key() {
                _ if object.oid == oid && object.schema == objects::PUBLIC => {
                    Some(quote_ident(&object.name))
                }
                _ if object.oid == oid => {
                    Some(format!("{}.{}", object.schema_name(), quote_ident(&object.name)))
                }
                Some((index, _)) if index == oid => Some(quote_ident(&object.key_name())),
                _ => None,
            }),
            "regtype" => types::by_oid(oid).map(|_| types::format_type(oid, None)),
            "regnamespace" => {
                SCHEMAS.iter().find(|(found, _)| *found == oid).map(|(_, name)| (*name).to_owned())
            }
            "regrole" => (oid == objects::OWNER).then(|| facts.user.clone()),
            _ => None,
        };
        found.unwrap_or_else(|| if oid == 0 { "-".to_owned() } else { oid.to_string() })
    };
    let names = oids.as_primitive::<Int64Type>().iter().map(|oid| oid.map(name_of));
    answer(args, Arc::new(names.collect::<StringArray>()))
}

/// Bytes that a table's rows take in memory; 0 for what has none, NULL for what is not there.
fn relation_size(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let facts = facts(args)?;
    let objects = objects::objects(&facts.state);
    let size = |oid: i64| {
        let object = objects.iter().find(|object| object.oid == oid)?;
        let objects::Kind::Table(record) = &object.kind else { return Some(0) };
        Some(facts.grid.table(record.id).ok()?.stats().bytes as i64)
    };
    let sizes = numbers(args)?.iter().map(|oid| oid.and_then(size)).collect::<Int64Array>();
    answer(args, Arc::new(sizes))
}

/// `pg_database_size(name or oid)`: all tables; every database name means the same one here.
fn database_size(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let facts = facts(args)?;
    let objects = objects::objects(&facts.state);
    let tables = objects.iter().filter_map(|object| match &object.kind {
        objects::Kind::Table(record) => facts.grid.table(record.id).ok(),
        _ => None,
    });
    let bytes: u64 = tables.map(|table| table.stats().bytes).sum();
    let asked = array_argument(args, 0)?;
    let sizes: Int64Array =
        (0..asked.len()).map(|row| asked.is_valid(row).then_some(bytes as i64)).collect();
    answer(args, Arc::new(sizes))
}

fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if !text.contains('\\') {
        return format!("'{quoted}'");
    }
    format!("E'{}'", quoted.replace('\\', "\\\\"))
}

/// `8192 bytes`, `16 kB`: PostgreSQL changes the unit above 10 240 of it.
fn size_pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value.abs() >= 10_240.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", value.round(), UNITS[unit])
}

/// `{x: element, n: its position}` for each element.
fn expanded_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(expanded_fields()), true)))
}

fn expanded_fields() -> Fields {
    let fields = ["x", "n"].map(|name| Field::new(name, DataType::Int32, true));
    Fields::from(fields.to_vec())
}

/// What JDBC unnests to learn a key's columns and their order.
fn expand_array(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let lists = array.as_list::<i32>();
    let elements = cast(lists.values(), &DataType::Int32)?;
    let mut positions = vec![0i32; elements.len()];
    for window in lists.offsets().windows(2) {
        let range = window[0] as usize..window[1] as usize;
        for (position, slot) in (1..).zip(&mut positions[range]) {
            *slot = position;
        }
    }
    let positions: ArrayRef = Arc::new(Int32Array::from(positions));
    let values = StructArray::new(expanded_fields(), vec![elements, positions], None);
    let field = Arc::new(Field::new_list_field(DataType::Struct(expanded_fields()), true));
    let nulls = lists.nulls().cloned();
    let list = ListArray::new(field, lists.offsets().clone(), Arc::new(values), nulls);
    answer(args, Arc::new(list))
}

/// `{k=v}` → `{"k 'v'"}`: how psql shows the options of a foreign table.
fn options_quoted(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let array = array_argument(args, 0)?;
    let lists = array.as_list::<i32>();
    let options = cast(lists.values(), &DataType::Utf8)?;
    let quoted = options.as_string::<i32>().iter().map(|option| {
        let (key, value) = option?.split_once('=')?;
        Some(format!("{} {}", quote_ident(key), quote_literal(value)))
    });
    let values: ArrayRef = Arc::new(quoted.collect::<StringArray>());
    let field = match super::session::text_list() {
        DataType::List(field) => field,
        _ => return Err(user_error("XX000", "a list of texts is a list")),
    };
    let offsets = lists.offsets().clone();
    let nulls = lists.nulls().cloned();
    let list = ListArray::new(field, offsets, values, nulls);
    answer(args, Arc::new(list))
}
