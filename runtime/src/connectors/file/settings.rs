//! `Settings`: the OPTIONS of a File mapping, validated without touching the disk.

use std::collections::BTreeMap;

use parquet::basic::{Compression, GzipLevel, ZstdLevel};

use super::glob::Glob;
use crate::{
    Error, Result,
    connectors::options::{OnError, Options, quoted},
    decode::{csv::Header, format::Format, whole::WholeFormat},
};

/// TYPE as users write it.
pub const NAME: &str = "File";

const OPTIONS: [&str; 10] = [
    "path",
    "glob",
    "format",
    "header",
    "ignoreFileNotFound",
    "sharedFileSystem",
    "compression",
    "on_error",
    "max_file_size",
    "preferredLocalParallelism",
];
const FORMATS: [&str; 4] = ["csv", "json-flat", "json", "parquet"];
const COMPRESSIONS: [&str; 5] = ["none", "snappy", "zstd", "lz4", "gzip"];

/// A file that a sink writes is published when it has grown to so many bytes, unless the mapping
/// says otherwise: large enough to be read fast, small enough that a reader does not wait for hours.
const FILE_SIZE_MAX_DEFAULT: u64 = 128 << 20;
/// Smaller files are a mistake: each costs two syncs.
const FILE_SIZE_MAX_LEAST: u64 = 1 << 10;

/// What is in the files of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Records, each a row.
    Records(Format),
    /// Parquet; what is written is compressed this way.
    Parquet(Compression),
}

/// The options.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder, as written.
    pub path: String,
    /// Which of its files.
    pub glob: Glob,
    /// What is in them.
    pub format: FileFormat,
    /// Whether a CSV file begins with the names of its fields.
    pub header: Header,
    /// Whether no file at all is an empty relation; else it is an error.
    pub ignores_not_found: bool,
    /// What to do about poison.
    pub on_error: OnError,
    /// A sink begins another file when one has so many bytes.
    pub file_size_max: u64,
    /// Instances of the source on each member.
    pub parallelism: Option<usize>,
}

impl Settings {
    /// Reads and validates OPTIONS.
    pub fn read(values: &BTreeMap<String, String>) -> Result<Self> {
        let options = Options::new(NAME, values);
        options.refuse_unknown(&OPTIONS)?;
        let Some(path) = options.get("path").filter(|path| !path.is_empty()) else {
            return Err(options.missing("path", "a folder beneath the server's --file-root"));
        };
        let Some(format) = options.get("format") else {
            return Err(options.missing("format", &format!("one of {}", quoted(&FORMATS))));
        };
        let format = read_format(&options, format)?;
        let has_header = options.boolean("header", false)?;
        if has_header && format != FileFormat::Records(Format::Csv) {
            return Err(options.wrong("header", "true", "it only with 'format'='csv'"));
        }
        let glob = options.get("glob").unwrap_or("*");
        let glob = Glob::new(glob).map_err(|expected| options.wrong("glob", glob, expected))?;
        // One member sees one file system, so that either answer is the truth.
        options.boolean("sharedFileSystem", false)?;
        let parallelism = match options.get("preferredLocalParallelism") {
            None => None,
            Some(_) => Some(options.number("preferredLocalParallelism", 1, 1)?.min(1024) as usize),
        };
        Ok(Self {
            path: path.to_owned(),
            glob,
            format,
            header: if has_header { Header::OfFile } else { Header::None },
            ignores_not_found: options.boolean("ignoreFileNotFound", false)?,
            on_error: options.on_error()?,
            file_size_max: options.number(
                "max_file_size",
                FILE_SIZE_MAX_LEAST,
                FILE_SIZE_MAX_DEFAULT,
            )?,
            parallelism,
        })
    }

    /// What the names of files that are written end in, when the glob does not say.
    pub fn extension(&self) -> &'static str {
        match self.format {
            FileFormat::Records(Format::Csv) => "csv",
            FileFormat::Records(Format::JsonFlat | Format::Whole(_)) => "json",
            FileFormat::Parquet(_) => "parquet",
        }
    }
}

fn read_format(options: &Options, name: &str) -> Result<FileFormat> {
    let records = match name {
        "csv" => Format::Csv,
        "json-flat" => Format::JsonFlat,
        "json" => Format::Whole(WholeFormat::Json),
        "parquet" => return Ok(FileFormat::Parquet(read_compression(options)?)),
        "avro" | "raw" => {
            return Err(Error::Invalid {
                code: "0A000",
                message: format!("format '{name}' is not supported for files"),
            });
        }
        _ => return Err(options.wrong("format", name, &format!("one of {}", quoted(&FORMATS)))),
    };
    match options.get("compression") {
        None | Some("none") => Ok(FileFormat::Records(records)),
        Some(other) => Err(Error::Invalid {
            code: "0A000",
            message: format!("compression '{other}' is not supported with '{name}'; use 'none'"),
        }),
    }
}

/// Every reader knows snappy, and it costs least; files are read whatever they are compressed with.
fn read_compression(options: &Options) -> Result<Compression> {
    Ok(match options.get("compression") {
        None | Some("snappy") => Compression::SNAPPY,
        Some("none") => Compression::UNCOMPRESSED,
        Some("zstd") => Compression::ZSTD(ZstdLevel::default()),
        Some("lz4") => Compression::LZ4_RAW,
        Some("gzip") => Compression::GZIP(GzipLevel::default()),
        Some(other) => {
            let expected = format!("one of {}", quoted(&COMPRESSIONS));
            return Err(options.wrong("compression", other, &expected));
        }
    })
}
