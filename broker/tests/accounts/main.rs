//! Accounts and tokens at work: who comes in, what each sees and may do, and what changes at once.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod client;
mod deletion;
mod filters;
mod inbox;
mod limits;
mod logs;
mod messages;
mod modules;
mod namespaces;
mod property;
mod restart;
mod rig;
mod rights;
mod switches;
mod sys;
