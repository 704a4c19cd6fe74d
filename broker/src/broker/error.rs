//! Why a broker did not start, or stopped.

use std::fmt;
use std::io;

use crate::accounts::OpenError;
use crate::module::ModuleError;
use crate::net::listen::{InvalidListen, Listen};
use crate::store::StoreError;

/// Why a broker did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A listener's URL was not understood.
    Listen(InvalidListen),
    /// A listener could not be opened.
    Bind {
        /// Which.
        listen: Listen,
        /// What the system said.
        error: io::Error,
    },
    /// A listener speaks TLS, and there are no certificates.
    NoTls(Listen),
    /// The storage cannot be opened.
    Storage(StoreError),
    /// The accounts cannot be opened.
    Accounts(OpenError),
    /// There are modules, and no folder of accounts to act by.
    NoAccounts,
    /// A module cannot begin.
    Module(ModuleError),
    /// The system gave no thread, no event queue or no randomness.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Bind { listen, error } => write!(f, "{listen} cannot be listened on: {error}"),
            Self::NoTls(listen) => write!(f, "{listen} needs certificate and key"),
            Self::Storage(error) => error.fmt(f),
            Self::Accounts(error) => write!(f, "the accounts cannot be opened: {error}"),
            Self::NoAccounts => f.write_str("modules need accounts in a folder"),
            Self::Module(error) => write!(f, "a module cannot begin: {error}"),
            Self::System(error) => write!(f, "the system gave too little to start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The broker stopped because it found its own state wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker failed; the panic before this line says where")
    }
}

impl std::error::Error for Failed {}
