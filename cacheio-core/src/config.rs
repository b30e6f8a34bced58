//! Configuration: the process-wide defaults, and the options of a cache or of one call.

pub(crate) mod defaults;
pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod policies;
pub(crate) mod settings;
pub(crate) mod ttl;
pub(crate) mod url;
