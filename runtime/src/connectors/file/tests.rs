//! The connector on a disk in memory: what is refused, what is read, and what inference finds.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use storage::{
    Grid, GridConfig,
    cluster::control::{ColumnRecord, ObjectId, ObjectName},
    env::SimDisk,
};

use super::*;
use crate::{
    delta::DeltaBatch,
    item::Item,
    processor::{Done, Outbox, ProcessorContext},
    state::{StateChunk, StateWriter},
    testing::{context, verify_processor},
};

fn write(disk: &SimDisk, path: &str, text: &str) {
    let mut file = disk.create(path.as_ref()).unwrap();
    file.append(text.as_bytes()).unwrap();
}

/// A disk with a root and a folder beside it.
fn disk() -> Arc<SimDisk> {
    SimDisk::new(1, ["/root/in", "/else"])
}

fn connector(disk: &Arc<SimDisk>) -> File {
    let env = Env { disk: Arc::clone(disk) as _, ..Env::simulated(1).0 };
    File::new(FileAccess::new(&env, Some("/root".into())))
}

fn options(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn request(given: &[(&str, &str)], schema: Option<SchemaRef>) -> MappingRequest {
    MappingRequest {
        external_name: "m".to_owned(),
        options: options(given),
        schema,
        external_columns: Vec::new(),
    }
}

fn id_and_text() -> SchemaRef {
    let fields =
        vec![Field::new("id", DataType::Int64, true), Field::new("t", DataType::Utf8, true)];
    Arc::new(Schema::new(fields))
}

fn mapping(given: &[(&str, &str)], schema: &SchemaRef) -> Arc<MappingRecord> {
    let column = |field: &Arc<Field>| ColumnRecord {
        name: field.name().clone(),
        sql_type: String::new(),
        is_not_null: false,
        default_sql: None,
        external_name: None,
    };
    Arc::new(MappingRecord {
        id: ObjectId(1),
        name: ObjectName::public("m"),
        external_name: "m".to_owned(),
        connector: settings::NAME.to_owned(),
        options: options(given),
        schema: Arc::clone(schema),
        columns: schema.fields().iter().map(column).collect(),
        watermark: None,
    })
}

fn supplier(disk: &Arc<SimDisk>, given: &[(&str, &str)]) -> Arc<dyn ProcessorSupplier> {
    let request = SourceRequest {
        mapping: mapping(given, &id_and_text()),
        projection: vec![0],
        struct_fields: BTreeMap::new(),
        event_time: None,
        grid: Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap(),
    };
    connector(disk).source(&request).unwrap().unwrap().supplier
}

const CSV: [(&str, &str); 2] = [("path", "in"), ("format", "csv")];
const JSON: [(&str, &str); 2] = [("path", "in"), ("format", "json-flat")];

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    let connector = connector(&disk());
    let schema = || Some(id_and_text());
    for path in ["../else", "in/../../else", "/else", "/"] {
        let given = [("path", path), ("format", "csv")];
        let error = connector.resolve(&request(&given, schema())).unwrap_err();
        assert_eq!(error.sqlstate(), "42501", "{path}: {error}");
    }
    for path in ["in", "/root/in", "."] {
        let given = [("path", path), ("format", "csv")];
        connector.resolve(&request(&given, schema())).unwrap();
    }
    let closed = File::new(FileAccess::new(&Env::simulated(1).0, None));
    let error = closed.resolve(&request(&CSV, schema())).unwrap_err();
    assert_eq!(error.sqlstate(), "42501");
    assert!(error.to_string().contains("--file-root"), "{error}");
}

#[test]
fn wrong_options_are_named() {
    let connector = connector(&disk());
    type Given<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Given<'_>, &str, &str); 9] = [
        (&[("format", "csv")], "22023", "\"path\""),
        (&[("path", "in")], "22023", "\"format\""),
        (&[CSV[0], ("format", "tsv")], "22023", "'json-flat'"),
        (&[CSV[0], ("format", "avro")], "0A000", "avro"),
        (&[JSON[0], JSON[1], ("header", "true")], "22023", "csv"),
        (&[CSV[0], CSV[1], ("glob", "a/*")], "22023", "glob"),
        (&[CSV[0], CSV[1], ("compression", "gzip")], "0A000", "gzip"),
        (&[CSV[0], CSV[1], ("idle_timeout", "5 s")], "22023", "idle_timeout"),
        (&[CSV[0], CSV[1], ("gllob", "*")], "22023", "\"gllob\""),
    ];
    for (given, code, word) in cases {
        let error = connector.resolve(&request(given, Some(id_and_text()))).unwrap_err();
        assert_eq!(error.sqlstate(), code, "{given:?}: {error}");
        assert!(error.to_string().contains(word), "{given:?}: {error}");
    }
}

fn inferred(disk: &Arc<SimDisk>, given: &[(&str, &str)]) -> Vec<(String, String)> {
    let schema = connector(disk).resolve(&request(given, None)).unwrap();
    let is_json = |field: &Field| !field.metadata().is_empty();
    schema
        .fields()
        .iter()
        .map(|field| {
            let kind = if is_json(field) { "json".into() } else { field.data_type().to_string() };
            (field.name().clone(), kind)
        })
        .collect()
}

#[test]
fn columns_are_found_in_the_first_records() {
    let disk = disk();
    write(&disk, "/root/in/a.csv", "n,d,b,t,zip,none\n1,1,true,x,007,\n,2.5,false,\"1\"\"\",08,\n");
    write(&disk, "/root/in/a.json", "{\"n\":1,\"o\":{\"x\":1},\"m\":1,\"t\":\"1\",\"z\":null}\n");
    write(&disk, "/root/in/b.json", "\n{\"m\":\"x\",\"d\":1e3,\"n\":2,\"z\":null}\n");
    let names = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect()
    };
    let csv = [CSV[0], CSV[1], ("header", "true"), ("glob", "*.csv")];
    assert_eq!(
        inferred(&disk, &csv),
        names(&[
            ("n", "Int64"),
            ("d", "Float64"),
            ("b", "Boolean"),
            ("t", "Utf8"),
            ("zip", "Utf8"),
            ("none", "Utf8"),
        ])
    );
    let json = [JSON[0], JSON[1], ("glob", "*.json")];
    assert_eq!(
        inferred(&disk, &json),
        names(&[
            ("n", "Int64"),
            ("o", "json"),
            ("m", "json"),
            ("t", "Utf8"),
            ("z", "Utf8"),
            ("d", "Float64"),
        ])
    );
    let none = request(&[CSV[0], CSV[1], ("glob", "*.txt")], None);
    assert_eq!(connector(&disk).resolve(&none).unwrap_err().sqlstate(), "42601");
}

#[test]
fn every_record_is_read_once_however_the_source_is_called() {
    let disk = disk();
    write(&disk, "/root/in/a.csv", "1,\"x\ny\"\r\n2,\r\n");
    write(&disk, "/root/in/b.csv", "\u{feff}3,a\n4,b");
    write(&disk, "/root/in/empty.csv", "");
    write(&disk, "/root/in/.hidden", "5,c\n");
    let schema = Arc::new(id_and_text().project(&[0]).unwrap());
    let expected = crate::testing::bigint_batch(&schema, &[&[1, 2, 3, 4]]);
    verify_processor(supplier(&disk, &CSV)).expect(vec![DeltaBatch::insertions(expected)]).run();
}

/// A source of two instances, of which each is called `calls` times; what it has emitted.
fn called(
    supplier: &Arc<dyn ProcessorSupplier>,
    saved: &[StateChunk],
    parallelism: usize,
    calls: usize,
) -> (Vec<i64>, Vec<StateChunk>) {
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let (mut rows, mut chunks) = (Vec::new(), Vec::new());
    let mut instances = supplier.create(parallelism).unwrap();
    for (index, instance) in instances.iter_mut().enumerate() {
        let context = ProcessorContext { index, parallelism, ..context(&grid) };
        instance.init(&context).unwrap();
        saved.iter().for_each(|chunk| instance.restore(chunk).unwrap());
    }
    for instance in &mut instances {
        let mut outbox = Outbox::new(1000);
        for _ in 0..calls {
            if instance.idle(&mut outbox).unwrap() == Done::Yes {
                break;
            }
        }
        while let Some(Item::Batch(batch)) = outbox.take() {
            rows.extend(ids(&batch.rows));
        }
        let mut writer = StateWriter::default();
        assert_eq!(instance.save(&mut writer).unwrap(), Done::Yes);
        chunks.extend(writer.chunks);
    }
    (rows, chunks)
}

#[test]
fn what_is_saved_is_read_on_by_any_number_of_instances() {
    let disk = disk();
    let mut text = String::new();
    for id in 0..60_000 {
        text.push_str(&format!("{{\"id\":{id}}}\n"));
    }
    for name in ["a", "b", "c"] {
        write(&disk, &format!("/root/in/{name}.json"), &text);
    }
    let supplier = supplier(&disk, &JSON);
    for (first, calls, second) in [(1, 1, 2), (2, 3, 1), (2, 5, 3), (3, 0, 2), (1, 100, 2)] {
        let (mut rows, saved) = called(&supplier, &[], first, calls);
        // A file that comes later is not part of it.
        let _ = disk.create("/root/in/later.json".as_ref()).map(|mut f| f.append(b"{\"id\":-1}\n"));
        let (rest, saved) = called(&supplier, &saved, second, 1000);
        disk.remove("/root/in/later.json".as_ref()).unwrap();
        assert!(called(&supplier, &saved, 2, 1000).0.is_empty(), "it knows its end");
        rows.extend(rest);
        rows.sort_unstable();
        let expected: Vec<i64> = (0..60_000).flat_map(|id| [id; 3]).collect();
        assert!(rows == expected, "{first} then {second}: {} rows", rows.len());
    }
}

#[test]
fn a_record_that_a_cut_falls_into_is_read_once() {
    let disk = disk();
    let lines: Vec<String> = (0..200).map(|id| format!("{{\"id\":{id}}}")).collect();
    let text = lines.join("\n");
    write(&disk, "/root/in/a.json", &text);
    let env = Env { disk: Arc::clone(&disk) as _, ..Env::simulated(1).0 };
    let access = FileAccess::new(&env, Some("/root".into()));
    let folder = folder::Folder::open(&access, "in").unwrap();
    let size = text.len() as u64;
    for cut in 1..size {
        let mut found = Vec::new();
        for (next, end) in [(0, cut), (cut, size)] {
            let is_cut = next > 0;
            let split = split::Split { file: "a.json".to_owned(), size, next, end, is_cut };
            let mut records = records::Records::open(&folder, split, false).unwrap();
            while let Some((_, record)) = records.next_record().unwrap() {
                found.push(String::from_utf8(record.to_vec()).unwrap());
            }
        }
        assert!(found == lines, "cut at {cut}: {} records", found.len());
    }
}

#[test]
fn poison_is_named_by_its_place_or_skipped() {
    let disk = disk();
    write(&disk, "/root/in/a.csv", "1,a\nx,b\n3,c\n");
    let error = verify_processor(supplier(&disk, &CSV)).run_to_error();
    assert_eq!(error.sqlstate(), "22P02");
    let message = error.to_string();
    assert!(message.contains("at byte 4 of file \"in/a.csv\""), "{message}");
    let skipping = supplier(&disk, &[CSV[0], CSV[1], ("on_error", "skip")]);
    assert_eq!(called(&skipping, &[], 1, 100).0, [1, 3]);
}

#[test]
fn a_folder_without_files_is_an_error_unless_it_may_be() {
    let disk = disk();
    let grid = Grid::open(GridConfig::default(), Env::simulated(1).0).unwrap();
    let start = |given: &[(&str, &str)]| {
        let mut instances = supplier(&disk, given).create(1).unwrap();
        instances[0].init(&context(&grid)).unwrap_err().sqlstate()
    };
    assert_eq!(start(&CSV), "58P01");
    let lenient = supplier(&disk, &[CSV[0], CSV[1], ("ignoreFileNotFound", "true")]);
    assert!(called(&lenient, &[], 2, 100).0.is_empty());
    let missing = [("path", "nowhere"), CSV[1], ("ignoreFileNotFound", "true")];
    assert_eq!(start(&missing), "58P01", "the folder itself must be there");
}
