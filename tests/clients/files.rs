//! The limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of this process and those it starts to `wanted`, or as far as it may; how many
/// may be open then.
pub(crate) fn raise_file_limit(wanted: u64) -> u64 {
    let old = getrlimit(Resource::Nofile);
    let maximum = old.maximum.map(|maximum| maximum.max(wanted));
    if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        // Only root raises the hard limit.
        let new = Rlimit { current: old.maximum, maximum: old.maximum };
        setrlimit(Resource::Nofile, new).expect("up to the hard limit everybody may");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
