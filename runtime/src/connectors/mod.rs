//! The connectors, one folder or file each, and the list of those built in. A connector reaches
//! the outside only through its own I/O half; what it hands to the dag are ordinary processors.

pub mod discard;
pub mod file;
pub mod generator;
pub mod kafka;
pub mod options;
pub mod rabbitmq;

use std::sync::Arc;

use self::file::FileAccess;
use crate::connector::Connectors;

/// The connectors every Tidewater has; files are where `files` says.
pub fn built_in(files: FileAccess) -> Connectors {
    let mut connectors = Connectors::default();
    connectors.register(Arc::new(generator::Generator));
    connectors.register(Arc::new(kafka::Kafka));
    connectors.register(Arc::new(file::File::new(files)));
    connectors.register(Arc::new(rabbitmq::RabbitMq));
    connectors.register(Arc::new(discard::Discard));
    connectors
}
