//! `Settings`: the OPTIONS of a RabbitMQ mapping, validated without contacting a broker.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    connectors::options::{OnError, Options, quoted},
    decode::{csv::Header, format::Format, whole::WholeFormat},
};

/// TYPE as users write it.
pub const NAME: &str = "RabbitMQ";

const OPTIONS: [&str; 6] =
    ["url", "valueFormat", "header", "prefetch", "on_error", "preferredLocalParallelism"];
const FORMATS: [&str; 5] = ["json-flat", "csv", "json", "raw", "varchar"];

/// Messages that may wait for an acknowledgement, of each instance. With a guarantee they wait for
/// a snapshot, so this is also what an instance reads between two of them.
const PREFETCH_DEFAULT: u64 = 20_000;
const PORT_DEFAULT: u16 = 5672;
/// A short text of AMQP.
const TEXT_BYTES_MAX: usize = 255;

/// The options.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The queue.
    pub queue: String,
    /// Where the broker is.
    pub broker: Address,
    /// What a message is.
    pub format: Format,
    /// Whether a CSV message begins with the names of its fields.
    pub header: Header,
    /// Messages that may wait for an acknowledgement.
    pub prefetch: u16,
    /// What to do about poison.
    pub on_error: OnError,
    /// Instances of the source on each member.
    pub parallelism: Option<usize>,
}

/// A broker, and who we are there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or number.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Never shown.
    pub password: String,
    /// Virtual host.
    pub virtual_host: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.virtual_host)
    }
}

impl Settings {
    /// Reads and validates OPTIONS; `queue` is EXTERNAL NAME.
    pub fn read(queue: &str, values: &BTreeMap<String, String>) -> Result<Self> {
        let options = Options::new(NAME, values);
        options.refuse_unknown(&OPTIONS)?;
        let Some(url) = options.get("url") else {
            return Err(options.missing("url", "as in 'amqp://user:password@host:5672/vhost'"));
        };
        let Some(format) = options.get("valueFormat") else {
            return Err(options.missing("valueFormat", &format!("one of {}", quoted(&FORMATS))));
        };
        let format = match format {
            "json-flat" => Format::JsonFlat,
            "csv" => Format::Csv,
            "json" => Format::Whole(WholeFormat::Json),
            "raw" => Format::Whole(WholeFormat::Raw),
            "varchar" | "text" => Format::Whole(WholeFormat::Varchar),
            other => {
                return Err(options.wrong("valueFormat", other, &quoted(&FORMATS)));
            }
        };
        let has_header = options.boolean("header", false)?;
        if has_header && format != Format::Csv {
            return Err(options.wrong("header", "true", "it only with 'valueFormat'='csv'"));
        }
        if queue.is_empty() || queue.len() > TEXT_BYTES_MAX {
            let message = format!("a queue name has 1 to {TEXT_BYTES_MAX} bytes");
            return Err(Error::Invalid { code: "42602", message });
        }
        let prefetch = options.number("prefetch", 1, PREFETCH_DEFAULT)?;
        let Ok(prefetch) = u16::try_from(prefetch) else {
            return Err(options.wrong("prefetch", &prefetch.to_string(), "1 to 65535"));
        };
        Ok(Self {
            queue: queue.to_owned(),
            broker: address(&options, url)?,
            format,
            header: if has_header { Header::OfMessage } else { Header::None },
            prefetch,
            on_error: options.on_error()?,
            parallelism: match options.get("preferredLocalParallelism") {
                // One keeps the order of the queue.
                None => Some(1),
                Some(_) => {
                    Some(options.number("preferredLocalParallelism", 1, 1)?.min(1024) as usize)
                }
            },
        })
    }
}

/// `amqp://[user[:password]@]host[:port][/vhost]`, with `%xx` in any part.
fn address(options: &Options, url: &str) -> Result<Address> {
    if url.starts_with("amqps://") {
        return Err(Error::Invalid {
            code: "0A000",
            message: "connections to RabbitMQ are not encrypted: amqps:// is not supported"
                .to_owned(),
        });
    }
    let read = || {
        let rest = url.strip_prefix("amqp://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "%2f"));
        let (who, place) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = who.split_once(':').unwrap_or((who, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (place, PORT_DEFAULT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = Address {
            host: unescaped(host)?,
            port,
            user: unescaped(user)?,
            password: unescaped(password)?,
            virtual_host: unescaped(path)?,
        };
        let is_short = |text: &String| text.len() <= TEXT_BYTES_MAX;
        let is_good = !address.host.is_empty() && is_short(&address.virtual_host);
        is_good.then_some(address)
    };
    // It may hold a password, so it is not shown.
    let expected = "amqp://user:password@host:5672/vhost";
    read().ok_or_else(|| options.wrong("url", "…", expected))
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<Settings> {
        let all = [("url", "amqp://localhost"), ("valueFormat", "json-flat")];
        let all = all.iter().chain(given).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Settings::read("q", &all.collect())
    }

    #[test]
    fn urls_are_read_as_rabbitmq_reads_them() {
        let of = |url: &str| read(&[("url", url)]).map(|settings| settings.broker);
        let full = of("amqp://me:p%40ss@[::1]:1234/my%2fhost").unwrap();
        assert_eq!((full.host.as_str(), full.port), ("::1", 1234));
        assert_eq!((full.user.as_str(), full.password.as_str()), ("me", "p@ss"));
        assert_eq!(full.virtual_host, "my/host");
        let bare = of("amqp://broker").unwrap();
        assert_eq!((bare.host.as_str(), bare.port), ("broker", 5672));
        assert_eq!((bare.user.as_str(), bare.virtual_host.as_str()), ("guest", "/"));
        for url in ["broker", "amqp://", "amqp://h:x", "amqp://h/%2", "http://h"] {
            assert_eq!(of(url).unwrap_err().sqlstate(), "22023", "{url}");
        }
        assert_eq!(of("amqps://broker").unwrap_err().sqlstate(), "0A000");
        let secret = of("amqp://me:secret@h:x").unwrap_err().to_string();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn wrong_options_are_named() {
        for (name, value, code) in [
            ("valueFormat", "avro", "22023"),
            ("prefetch", "0", "22023"),
            ("prefetch", "70000", "22023"),
            ("header", "true", "22023"),
            ("durable", "true", "22023"),
        ] {
            let error = read(&[(name, value)]).err().unwrap();
            assert_eq!(error.sqlstate(), code, "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
