//! Claims about what psql and the drivers read, in their own queries (`psql.sql`).

use crate::functions::testing::{plan_in, rows_in, system_context};

/// psql's queries: the command and the text.
fn psql_queries() -> Vec<(String, String)> {
    queries(include_str!("psql.sql"))
}

fn queries(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("\n-- ").skip(1);
    blocks
        .filter_map(|block| block.split_once('\n'))
        .map(|(command, sql)| (command.to_owned(), sql.replace("{oid}", "16385")))
        .collect()
}

fn query(command: &str, position: usize) -> String {
    let of_command = psql_queries().into_iter().filter(|(name, _)| name == command);
    of_command.map(|(_, sql)| sql).nth(position).unwrap()
}

#[test]
fn every_query_of_psql_and_drivers_is_planned() {
    let context = system_context();
    let all = [psql_queries(), queries(include_str!("drivers.sql"))].concat();
    let failures: Vec<String> = all
        .iter()
        .filter_map(|(command, sql)| {
            let error = plan_in(&context, sql).err()?;
            Some(format!("{command}: {error}\n{sql}\n"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn relations_are_listed_by_kind() {
    let context = system_context();
    let rows = rows_in(&context, &query("\\d", 0));
    let public: Vec<_> = rows.iter().filter(|row| row.starts_with("public")).collect();
    assert_eq!(public, ["public|m|foreign table|ann", "public|t|table|ann", "public|vw|view|ann"]);
    let rows = rows_in(&context, &query("\\dt", 0));
    assert_eq!(rows, ["public|t|table|ann"]);
}

#[test]
fn a_table_is_described_with_its_key() {
    let context = system_context();
    assert_eq!(rows_in(&context, &query("\\d t", 0)), ["16385|public|t"]);
    assert_eq!(
        rows_in(&context, &query("\\d t", 2)),
        [
            "k|bigint|NULL|true|NULL||",
            "v|text|NULL|true|NULL||",
            "n|numeric(10,2)|NULL|false|NULL||",
            "ts|timestamp with time zone|now()|false|NULL||",
        ]
    );
    assert_eq!(
        rows_in(&context, &query("\\d t", 3)),
        ["t_pkey|true|true|false|true|CREATE UNIQUE INDEX t_pkey ON public.t USING btree (k)|\
          PRIMARY KEY (k)|p|false|false|false|0"]
    );
}

#[test]
fn names_and_numbers_of_relations_cast_both_ways() {
    let context = system_context();
    assert_eq!(rows_in(&context, "SELECT 't'::regclass"), ["t"]);
    assert_eq!(rows_in(&context, "SELECT 't'::regclass::oid"), ["16385"]);
    assert_eq!(
        rows_in(&context, "SELECT relname FROM pg_class WHERE oid = 'public.t'::regclass"),
        ["t"]
    );
    assert_eq!(
        rows_in(&context, "SELECT conrelid::regclass, conname FROM pg_constraint"),
        ["t|t_pkey"]
    );
    assert_eq!(rows_in(&context, "SELECT to_regclass('nope') IS NULL"), ["true"]);
    assert_eq!(rows_in(&context, "SELECT 23::regtype"), ["integer"]);
}

#[test]
fn the_standard_views_tell_the_same() {
    let context = system_context();
    assert_eq!(
        rows_in(
            &context,
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns \
             WHERE table_name = 't' ORDER BY ordinal_position"
        ),
        ["k|bigint|NO", "v|text|NO", "n|numeric|YES", "ts|timestamp with time zone|YES",]
    );
    assert_eq!(
        rows_in(&context, "SELECT name, rows, backups, durability FROM sys.tables"),
        ["t|0|0|memory"]
    );
    assert_eq!(rows_in(&context, "SELECT count(*), sum(rows) FROM sys.partitions"), ["271|0"]);
}

#[test]
fn jdbc_reads_tables_columns_and_keys() {
    let context = system_context();
    let queries = queries(include_str!("drivers.sql"));
    let rows = |name: &str| {
        let (_, sql) = queries.iter().find(|(command, _)| command == name).unwrap();
        rows_in(&context, sql)
    };
    assert_eq!(rows("jdbc getTables"), ["|public|t|TABLE|NULL|||||"]);
    assert_eq!(rows("jdbc getPrimaryKeys"), ["|public|t|k|1|t_pkey"]);
    let columns = rows("jdbc getColumns");
    assert_eq!(columns.len(), 4);
    assert_eq!(columns[0], "public|t|k|20|true|-1|8|-1|1|NULL|NULL|NULL|NULL|0|b");
    assert_eq!(rows("psycopg TypeInfo"), ["int4|23|1007|integer|,"]);
    assert_eq!(rows("sqlalchemy get_table_names"), ["t"]);
}
