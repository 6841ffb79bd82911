//! Kafka: topics as sources.
