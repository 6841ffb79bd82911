//! Parquet on a disk in memory: what is written is read back, files of others as far as their types
//! go, and files that somebody has made to harm.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::*,
    datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit},
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, GzipLevel, ZstdLevel},
    file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion},
};
use storage::env::{Disk, Env, Rng, SimDisk};

use super::{
    super::{FileAccess, folder::Folder, glob::Glob, reading::Reading, settings::Settings},
    reading::ParquetReading,
    writing::ParquetSpelling,
};
use crate::{
    Error, Result,
    connectors::file::{split::Split, writing::Spelling},
    decode::column::TYPE_KEY,
};

struct Bench {
    disk: Arc<SimDisk>,
    access: FileAccess,
    folder: Folder,
}

impl Bench {
    fn new() -> Self {
        let disk = SimDisk::new(1, ["/root/in"]);
        let env = Env { disk: Arc::clone(&disk) as _, ..Env::simulated(1).0 };
        let access = FileAccess::new(&env, Some("/root".into()));
        let folder = Folder::open(&access, "in").unwrap();
        Self { disk, access, folder }
    }

    fn put(&self, bytes: &[u8]) {
        let path = "/root/in/a.parquet".as_ref();
        let _ = self.disk.remove(path);
        self.disk.create(path).unwrap().append(bytes).unwrap();
    }

    /// A file as another program writes it.
    fn write(&self, columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) {
        self.put(&file(&RecordBatch::try_from_iter(columns).unwrap(), properties));
    }

    fn splits(&self, piece: u64) -> Vec<Split> {
        let files = self.folder.files(&Glob::new("*.parquet").unwrap()).unwrap();
        super::footer::splits(&self.folder, &files[0], piece).unwrap()
    }

    fn reading(&self, schema: &SchemaRef, given: &[(&str, &str)]) -> ParquetReading {
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        ParquetReading::new(&settings(given), schema, &[], &all).unwrap()
    }

    /// All rows of the file as these columns, and how many were left out.
    fn read_with(
        &self,
        schema: &SchemaRef,
        given: &[(&str, &str)],
    ) -> Result<(Vec<RecordBatch>, u64)> {
        let mut reading = self.reading(schema, given);
        let mut rows = Vec::new();
        for split in self.splits(u64::MAX) {
            reading.begin(&self.folder, split)?;
            while !reading.advance()? {
                rows.extend(reading.take()?);
            }
        }
        Ok((rows, reading.take_skipped()))
    }

    fn read(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let (rows, _) = self.read_with(schema, &[])?;
        Ok(arrow::compute::concat_batches(schema, &rows).unwrap())
    }
}

fn file(rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties.build())).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    bytes
}

fn plain() -> WriterPropertiesBuilder {
    WriterProperties::builder()
}

fn settings(given: &[(&str, &str)]) -> Settings {
    let all = [("path", "in"), ("format", "parquet")];
    let all = all.iter().chain(given).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Settings::read(&all.collect::<BTreeMap<_, _>>()).unwrap()
}

fn column(name: &str, data_type: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, data_type, true)]))
}

fn micros(zone: Option<&str>) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into))
}

/// Every type a column of a mapping can have, `rows` long, with NULLs.
fn every_type(rows: i64) -> RecordBatch {
    let some = |n: i64| (n % 7 != 3).then_some(n);
    let numbers = || (0..rows).map(some);
    let texts = || numbers().map(|n| n.map(|n| format!("t{}", n % 100)));
    let json = [(TYPE_KEY.to_owned(), "json".to_owned())];
    let uuids = numbers().map(|n| n.map(|n| (n as u128).to_be_bytes()));
    let uuids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap();
    let truths = numbers().map(|n| n.map(|n| n % 2 == 0)).collect::<BooleanArray>();
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("b", Arc::new(truths)),
        ("i2", Arc::new(numbers().map(|n| n.map(|n| -(n as i16))).collect::<Int16Array>())),
        ("i4", Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Int32Array>())),
        ("i8", Arc::new(numbers().map(|n| n.map(|n| n << 40)).collect::<Int64Array>())),
        ("f4", Arc::new(numbers().map(|n| n.map(|n| n as f32 / 4.)).collect::<Float32Array>())),
        ("f8", Arc::new(numbers().map(|n| n.map(|n| n as f64 / 8.)).collect::<Float64Array>())),
        ("t", Arc::new(texts().collect::<StringArray>())),
        ("y", Arc::new(texts().map(|t| t.map(String::into_bytes)).collect::<BinaryArray>())),
        ("d", Arc::new(numbers().map(|n| n.map(|n| n as i32)).collect::<Date32Array>())),
        ("tm", Arc::new(numbers().collect::<Time64MicrosecondArray>())),
        ("ts", Arc::new(numbers().collect::<TimestampMicrosecondArray>())),
        ("tz", Arc::new(numbers().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
        ("u", Arc::new(uuids)),
    ];
    let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
    let mut columns: Vec<(Field, ArrayRef)> =
        arrays.into_iter().map(|(name, array)| (field(name, &array), array)).collect();
    for (precision, scale) in [(5, 2), (15, 3), (38, 18)] {
        let values = numbers().map(|n| n.map(i128::from)).collect::<Decimal128Array>();
        let values = values.with_precision_and_scale(precision, scale).unwrap();
        let field = Field::new(format!("n{precision}"), values.data_type().clone(), true);
        columns.push((field, Arc::new(values)));
    }
    let documents = numbers().map(|n| n.map(|n| format!("{{\"n\": {n}}}")));
    let field = Field::new("j", DataType::Utf8, true).with_metadata(json.into());
    columns.push((field, Arc::new(documents.collect::<StringArray>())));
    let required = (0..rows).collect::<Int64Array>();
    columns.push((Field::new("id", DataType::Int64, false), Arc::new(required)));
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

const CODECS: [Compression; 4] =
    [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW, Compression::LZ4];

fn codecs() -> Vec<Compression> {
    let mut codecs = CODECS.to_vec();
    codecs.push(Compression::ZSTD(ZstdLevel::default()));
    codecs.push(Compression::GZIP(GzipLevel::default()));
    codecs
}

#[test]
fn every_type_is_read_back_as_it_was_written() {
    let rows = every_type(10_000);
    let fields: Vec<Field> = rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    let names: Vec<(usize, String)> =
        fields.iter().map(|field| field.name().clone()).enumerate().collect();
    for codec in codecs() {
        let bench = Bench::new();
        let spelling = ParquetSpelling::new(&fields, &names, codec).unwrap();
        let file = bench.disk.create("/root/in/a.parquet".as_ref()).unwrap();
        let mut writing = spelling.begin(file, "a".to_owned()).unwrap();
        for start in (0..rows.num_rows()).step_by(1000) {
            writing.write(&rows.slice(start, 1000)).unwrap();
            assert!(writing.size() > 0 && writing.held() > 0);
        }
        writing.finish().unwrap();
        assert_eq!(bench.read(&rows.schema()).unwrap(), rows, "{codec}");
        // Whoever declares nothing gets the same columns, but for what may be NULL.
        let inferred = super::columns::inferred(&bench.access, &settings(&[])).unwrap().unwrap();
        for (inferred, field) in inferred.iter().zip(&fields) {
            assert_eq!(inferred, &field.clone().with_nullable(true));
        }
    }
}

#[test]
fn types_of_other_programs_become_those_declared() {
    let text = DataType::Utf8;
    let numeric = |precision, scale| DataType::Decimal128(precision, scale);
    let ms = TimestampMillisecondArray::from(vec![Some(-1), None]);
    let ns = TimestampNanosecondArray::from(vec![Some(1_500), None]).with_timezone("UTC");
    let half = Float32Array::from(vec![Some(1.5), None]);
    let half = arrow::compute::cast(&half, &DataType::Float16).unwrap();
    let cases: Vec<(ArrayRef, DataType, &str)> = vec![
        (Arc::new(Int8Array::from(vec![Some(-7), None])), DataType::Int16, "-7"),
        (Arc::new(UInt8Array::from(vec![Some(200), None])), DataType::Int64, "200"),
        (Arc::new(UInt16Array::from(vec![Some(60_000), None])), DataType::Int32, "60000"),
        (Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])), DataType::Int64, "4294967295"),
        (
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])),
            numeric(20, 0),
            "18446744073709551615",
        ),
        (Arc::new(Int64Array::from(vec![Some(70_000), None])), DataType::Int16, "22003"),
        (Arc::new(Int64Array::from(vec![Some(7), None])), DataType::Int16, "7"),
        (Arc::new(Int64Array::from(vec![Some(7), None])), DataType::Float64, "7.0"),
        (Arc::new(Int64Array::from(vec![Some(7), None])), numeric(5, 2), "7.00"),
        (Arc::new(Int64Array::from(vec![Some(7000), None])), numeric(5, 2), "22003"),
        (Arc::new(Int64Array::from(vec![Some(7), None])), text.clone(), "7"),
        (half, DataType::Float32, "1.5"),
        (Arc::new(Float64Array::from(vec![Some(1.5), None])), DataType::Float32, "1.5"),
        (Arc::new(Float64Array::from(vec![Some(1e300), None])), DataType::Float32, "22003"),
        (Arc::new(Float64Array::from(vec![Some(1.005), None])), numeric(5, 1), "1.0"),
        (Arc::new(Float64Array::from(vec![Some(1.5), None])), DataType::Int64, "42804"),
        (Arc::new(Float64Array::from(vec![Some(1e20), None])), text.clone(), "1e20"),
        (Arc::new(StringArray::from(vec![Some("17"), None])), DataType::Int32, "17"),
        (Arc::new(StringArray::from(vec![Some("x"), None])), DataType::Int32, "22P02"),
        (Arc::new(StringArray::from(vec![Some("x"), None])), DataType::Binary, "42804"),
        (Arc::new(LargeStringArray::from(vec![Some("long"), None])), text.clone(), "long"),
        (
            Arc::new(StringArray::from(vec![Some("2026-01-02"), None])),
            DataType::Date32,
            "2026-01-02",
        ),
        (Arc::new(BinaryArray::from(vec![Some(&b"abc"[..]), None])), text.clone(), "abc"),
        (Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), None])), text.clone(), "22021"),
        (Arc::new(BinaryArray::from(vec![Some(&b"abc"[..]), None])), DataType::Int64, "42804"),
        (Arc::new(Date32Array::from(vec![Some(1), None])), micros(None), "1970-01-02T00:00:00"),
        (Arc::new(Date32Array::from(vec![Some(1), None])), text.clone(), "1970-01-02"),
        (Arc::new(Date32Array::from(vec![Some(1), None])), DataType::Int32, "42804"),
        (Arc::new(ms.clone()), micros(None), "1969-12-31T23:59:59.999"),
        (Arc::new(ms), text, "1969-12-31T23:59:59.999"),
        (Arc::new(ns), micros(Some("UTC")), "1970-01-01T00:00:00.000001Z"),
        (
            Arc::new(TimestampMillisecondArray::from(vec![Some(i64::MAX), None])),
            micros(None),
            "22003",
        ),
        (
            Arc::new(Time32MillisecondArray::from(vec![Some(1), None])),
            DataType::Time64(TimeUnit::Microsecond),
            "00:00:00.001",
        ),
    ];
    for (values, declared, expected) in cases {
        let bench = Bench::new();
        let what = format!("{} as {declared}", values.data_type());
        bench.write(vec![("v", values)], plain());
        let found = match bench.read(&column("v", declared.clone())) {
            Ok(rows) => {
                assert_eq!(rows.column(0).data_type(), &declared);
                assert!(rows.column(0).is_null(1), "{what}");
                arrow::util::display::array_value_to_string(rows.column(0), 0).unwrap()
            }
            Err(error) => {
                let message = error.to_string();
                let names_it = message.contains("\"in/a.parquet\"") && message.contains("\"v\"");
                assert!(names_it, "{message}");
                error.sqlstate().to_owned()
            }
        };
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn columns_are_found_by_their_names_and_a_missing_one_is_told() {
    let bench = Bench::new();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
    let one = |n| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
    bench.write(vec![("z", one(1)), ("tags", Arc::new(list)), ("a", one(2))], plain());
    let schema = Arc::new(Schema::new(vec![
        Field::new("first", DataType::Int64, true),
        Field::new("a", DataType::Int64, true),
    ]));
    let renamed = [Some("z".to_owned()), None];
    let mut reading = ParquetReading::new(&settings(&[]), &schema, &renamed, &[1, 0]).unwrap();
    reading.begin(&bench.folder, bench.splits(u64::MAX).remove(0)).unwrap();
    while !reading.is_full() {
        reading.advance().unwrap();
    }
    let rows = reading.take().unwrap().unwrap();
    let values = |n: usize| rows.column(n).as_primitive::<Int64Type>().value(0);
    assert_eq!((values(0), values(1)), (2, 1));
    let missing = bench.read(&column("nope", DataType::Int64)).unwrap_err();
    assert_eq!(missing.sqlstate(), "42703");
    let list = bench.read(&column("tags", DataType::Utf8)).unwrap_err();
    assert_eq!(list.sqlstate(), "42804");
    let inferred = super::columns::inferred(&bench.access, &settings(&[])).unwrap_err();
    assert_eq!(inferred.sqlstate(), "0A000");
    assert!(inferred.to_string().contains("\"tags\""), "{inferred}");
}

#[test]
fn pages_of_other_columns_are_not_touched() {
    let bench = Bench::new();
    let ids: ArrayRef = Arc::new((0..1000).collect::<Int64Array>());
    let texts: ArrayRef =
        Arc::new((0..1000).map(|n| Some(format!("text{n}"))).collect::<StringArray>());
    let rows = RecordBatch::try_from_iter([("id", ids), ("t", texts)]).unwrap();
    let mut bytes = file(&rows, plain().set_dictionary_enabled(false));
    let at = bytes.windows(7).position(|window| window == b"text500").unwrap();
    bytes[at - 200..at + 200].fill(0xff);
    bench.put(&bytes);
    assert_eq!(bench.read(&column("id", DataType::Int64)).unwrap().num_rows(), 1000);
    let error = bench.read(&column("t", DataType::Utf8)).unwrap_err();
    assert!(["22P04", "22021"].contains(&error.sqlstate()), "{error}");
    // Without any column the footer tells how many rows there are.
    let none = Arc::new(Schema::empty());
    let (counted, _) = bench.read_with(&none, &[]).unwrap();
    assert_eq!(counted.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
}

#[test]
fn every_row_is_read_once_from_wherever_it_is_restarted() {
    let bench = Bench::new();
    let ids: ArrayRef = Arc::new((0..40_000).collect::<Int64Array>());
    let groups = plain().set_max_row_group_row_count(Some(3_000)).set_dictionary_enabled(false);
    bench.write(vec![("id", ids)], groups);
    let schema = column("id", DataType::Int64);
    let whole = bench.splits(u64::MAX);
    let pieces = bench.splits(50_000);
    assert!(whole.len() == 1 && pieces.len() > 4, "{pieces:?}");
    for splits in [whole, pieces] {
        for calls in [1, 2, 3, 7, 100] {
            let mut ids: Vec<i64> = Vec::new();
            let mut left: Vec<Split> = splits.clone();
            // Each execution reads a little of each split, and saves what is left.
            while !left.is_empty() {
                let mut reading = bench.reading(&schema, &[]);
                let mut saved = Vec::new();
                for split in left {
                    reading.begin(&bench.folder, split).unwrap();
                    for _ in 0..calls {
                        reading.advance().unwrap();
                        if let Some(rows) = reading.take().unwrap() {
                            ids.extend(rows.column(0).as_primitive::<Int64Type>().values());
                        }
                    }
                    saved.extend(reading.rest().cloned().filter(|split| split.next < split.end));
                }
                left = saved;
            }
            ids.sort_unstable();
            assert!(ids.iter().copied().eq(0..40_000), "{calls} calls: {} rows", ids.len());
        }
    }
}

#[test]
fn a_value_that_does_not_fit_fails_or_is_left_out() {
    let bench = Bench::new();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), Some("x"), None, Some("4")]));
    bench.write(vec![("v", texts)], plain());
    let schema = column("v", DataType::Int64);
    let error = bench.read(&schema).unwrap_err().to_string();
    assert!(error.contains("row 2 of file \"in/a.parquet\": column \"v\""), "{error}");
    let (rows, skipped) = bench.read_with(&schema, &[("on_error", "skip")]).unwrap();
    assert_eq!((rows[0].num_rows(), skipped), (3, 1));
    let required = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
    let (rows, skipped) = bench.read_with(&required, &[("on_error", "skip")]).unwrap();
    assert_eq!((rows[0].num_rows(), skipped), (2, 2), "a NULL does not fit either");
}

#[test]
fn a_small_dictionary_does_not_become_a_large_batch() {
    let bench = Bench::new();
    let text = "x".repeat(500_000);
    let texts: ArrayRef = Arc::new((0..1000).map(|_| Some(&text)).collect::<StringArray>());
    bench.write(vec![("t", texts)], plain().set_dictionary_page_size_limit(1 << 20));
    let (rows, _) = bench.read_with(&column("t", DataType::Utf8), &[]).unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
    assert!(rows.iter().all(|rows| rows.num_rows() <= 2), "two have a MiB");
}

/// Files of many kinds, each some kB.
fn victims() -> Vec<Vec<u8>> {
    let rows = every_type(60);
    let mut victims: Vec<Vec<u8>> =
        codecs().into_iter().map(|codec| file(&rows, plain().set_compression(codec))).collect();
    let texts = rows.project(&[6, 7, 3]).unwrap();
    for encoding in [Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        let plain =
            plain().set_dictionary_enabled(false).set_writer_version(WriterVersion::PARQUET_2_0);
        let texts = texts.project(&[0]).unwrap();
        victims.push(file(&texts, plain.set_encoding(encoding)));
    }
    let numbers = texts.project(&[2]).unwrap();
    for encoding in [Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT] {
        let plain = plain().set_dictionary_enabled(false);
        victims.push(file(&numbers, plain.set_encoding(encoding)));
    }
    victims
}

#[test]
fn damaged_files_are_errors_and_never_more() {
    let bench = Bench::new();
    let rng = Rng::seeded(7);
    let below = |bound: usize| (rng.next_u64() % bound as u64) as usize;
    let (mut refused, mut read) = (0, 0);
    for victim in victims() {
        bench.put(&victim);
        let fields = super::columns::inferred(&bench.access, &settings(&[])).unwrap().unwrap();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        assert_eq!(bench.read(&schema).unwrap().num_rows(), 60);
        for round in 0..200 {
            let mut bytes = victim.clone();
            let footer = u32::from_le_bytes(*bytes[..bytes.len() - 4].last_chunk().unwrap());
            let from = bytes.len() - 8 - footer as usize;
            for _ in 0..1 + below(3) {
                // Half of the blows fall on the footer.
                let at = if round % 2 == 0 { from + below(footer as usize) } else { below(from) };
                bytes[at] = match below(3) {
                    0 => rng.next_u64() as u8,
                    1 => bytes[at] ^ (1 << below(8)),
                    _ => 0xff,
                };
            }
            if round % 20 == 0 {
                bytes.remove(below(from));
            }
            bench.put(&bytes);
            match bench.read(&schema) {
                Ok(_) => read += 1,
                Err(Error::User { message, .. }) => {
                    assert!(message.contains("\"in/a.parquet\""), "{message}");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 500 && read > 0, "{refused} refused, {read} read");
}

#[test]
fn what_is_no_parquet_file_at_all_is_told() {
    let bench = Bench::new();
    for bytes in [&b"id,t\n1,2\n"[..], b"PAR1", b"PAR1\0\0\0\0PAR1", b"PAR1\xff\xff\xff\xffPAR1"] {
        bench.put(bytes);
        let error = bench.read(&column("id", DataType::Int64)).unwrap_err();
        assert_eq!(error.sqlstate(), "22P04", "{error}");
        assert!(error.to_string().contains("\"in/a.parquet\""), "{error}");
    }
    bench.put(b"PAR1\x01\0\0\0PARE");
    assert_eq!(bench.read(&column("id", DataType::Int64)).unwrap_err().sqlstate(), "0A000");
    // An empty file is a mark that another program has left.
    bench.put(b"");
    assert!(bench.splits(u64::MAX).is_empty());
}
