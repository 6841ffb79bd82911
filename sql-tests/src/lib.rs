//! The specification, executable: `.slt` files over the wire against a real server process.
