//! The command line.

#[cfg(feature = "channels")]
use std::net::SocketAddr;
use std::path::PathBuf;

#[cfg(feature = "channels")]
use clap::value_parser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Arguments;

/// An MQTT 3.1, 3.1.1 and 5.0 broker.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker until SIGTERM or SIGINT
    Serve(ServeOptions),
    /// Say what would run, or what is wrong with the configuration and where
    Check(CheckOptions),
    /// Look after what a broker keeps
    #[command(subcommand)]
    Data(DataCommand),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Put load on a running broker, and measure
    #[cfg(feature = "channels")]
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// What to measure.
#[cfg(feature = "channels")]
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Be a fleet of trackers, the platform that gets their messages, and a pair of MQTT clients
    ///
    /// The broker needs channels, registry and streams, and 127.0.0.1 in streams.allow
    Fleet(FleetOptions),
}

/// Options of `bench fleet`.
#[cfg(feature = "channels")]
#[derive(Debug, Args)]
pub(crate) struct FleetOptions {
    /// Trackers, each a device with a TCP connection of its own
    #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=60_000))]
    pub(crate) trackers: u32,
    /// Seconds that they are at work
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Milliseconds between two messages of a tracker
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u64).range(1..=3_600_000))]
    pub(crate) interval_ms: u64,
    /// The broker's http listener
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// The broker's mqtt listener
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    pub(crate) mqtt: String,
    /// Where the platform listens; the broker must reach it there
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) platform: SocketAddr,
    /// Key of a master token; without it the one of the data directory is taken
    #[arg(long, value_name = "KEY")]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
    /// Process of the broker on this machine, to say what it needs of CPU and memory
    #[arg(long, value_name = "PID")]
    pub(crate) broker_pid: Option<u32>,
    /// Leave channel, devices and stream where they are
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print its key
    Create {
        /// What it opens
        #[arg(long = "type", value_enum, default_value_t = TokenType::Standard)]
        kind: TokenType,
        /// What an acl token opens: a JSON array of entries
        #[arg(long, value_name = "JSON", required_if_eq("kind", "acl"))]
        acl: Option<String>,
        /// What it is for
        #[arg(long, default_value = "")]
        info: String,
        /// Seconds that it is valid for after it was last used
        #[arg(long, value_name = "SECONDS", default_value_t = 31_536_000)]
        ttl: u64,
        /// The account it is for, instead of that of --token
        #[arg(long, value_name = "ACCOUNT")]
        cid: Option<u64>,
        #[command(flatten)]
        at: TokenOptions,
    },
    /// Print number, account, type, state and purpose of all tokens
    List {
        #[command(flatten)]
        at: TokenOptions,
    },
    /// Remove tokens: their clients are gone
    Revoke {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
        #[command(flatten)]
        at: TokenOptions,
    },
}

/// What a token opens.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TokenType {
    /// All topics of its account
    Standard,
    /// Everything, other tokens and accounts included
    Master,
    /// What --acl lists
    Acl,
}

/// Where tokens are.
#[derive(Debug, Args)]
pub(crate) struct TokenOptions {
    /// A running broker's http listener, such as http://127.0.0.1:8080; without it the broker that
    /// uses the data directory must be stopped
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Key of a master token; without it the one of the data directory is taken
    #[arg(long, value_name = "KEY", requires = "url")]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataOptions,
}

/// What to do with a data directory.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Say what the data directory of a stopped broker holds, and what of it is damaged
    Verify(DataOptions),
    /// Keep all that is sound in the damaged data directory of a stopped broker
    Repair(DataOptions),
    /// Copy the data directory; a broker may run meanwhile
    Backup {
        /// Folder of the backup, empty or not there yet
        dir: PathBuf,
        #[command(flatten)]
        data: DataOptions,
    },
    /// Make a data directory of a backup
    Restore {
        /// Folder of the backup
        dir: PathBuf,
        #[command(flatten)]
        data: DataOptions,
    },
}

/// Options of all that is done with a data directory.
#[derive(Debug, Args)]
pub(crate) struct DataOptions {
    /// Folder of the master token and everything else that is kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of the master token and everything else that is kept
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Listen here instead of where the configuration says; can be repeated
    ///
    /// mqtt, mqtts, ws, wss, http or https; port 0 takes a free one
    #[arg(long, value_name = "URL")]
    listen: Vec<String>,
    /// Let clients without valid credentials in, with all rights
    #[arg(long)]
    anonymous: bool,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckOptions {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The data directory when none is named.
const DATA_DIR: &str = "./longshore-data";

impl ServeOptions {
    /// The part that goes over file and environment.
    pub(crate) fn arguments(&self) -> Arguments {
        Arguments {
            config: self.config.clone(),
            listen: self.listen.clone(),
            anonymous: self.anonymous,
        }
    }
}

impl CheckOptions {
    /// The part that goes over file and environment.
    pub(crate) fn arguments(&self) -> Arguments {
        Arguments { config: self.config.clone(), ..Arguments::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
