//! `verify_processor`: runs a processor through every way a tasklet may call it.
