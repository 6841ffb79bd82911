//! The connectors, one folder or file each, and the list of those built in.
