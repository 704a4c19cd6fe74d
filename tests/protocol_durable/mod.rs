//! What survives the end of the broker: told to stop, killed, or with the machine.

mod absent;
mod restart;
mod retained;
mod shared;
