//! `longshore check`: what would run, or what is wrong and where.

use std::io::{self, Write};

use crate::Outcome;
use crate::cli::CheckOptions;
use crate::config::{Config, MASTER_TOKEN_ENV, keys};
use crate::data_dir;
use crate::start;

/// Reads everything that `serve` would read, opens nothing for clients, and reports.
pub(crate) fn check(options: &CheckOptions) -> Outcome {
    let config = Config::load(&options.arguments())?;
    let mut problems = Vec::new();
    problems.extend(start::load_tls(&config.tls).err());
    problems.extend(start::check_listeners(&config.listen));
    let token = std::env::var(MASTER_TOKEN_ENV).ok();
    if let Some(text) = &token {
        problems.extend(data_dir::from_environment(text).err());
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // A reader that is gone has seen enough.
    let _ = io::stdout().write_all(report(&config, token.is_some()).as_bytes());
    Ok(())
}

fn report(config: &Config, token_in_environment: bool) -> String {
    let mut lines: Vec<String> =
        config.listen.iter().map(|it| format!("listen  {}", it.listen)).collect();
    lines.extend(config.tls.paths().map(|path| format!("tls     {}", path.display())));
    lines.push(format!(
        "token   {}",
        match token_in_environment {
            true => MASTER_TOKEN_ENV,
            false => "kept in the data directory",
        }
    ));
    lines.push(format!(
        "clients {}",
        match config.auth.anonymous {
            true => "need no credentials and have all rights",
            false => "need credentials",
        }
    ));
    let defaults = Config::default();
    let told = |section: &str| section == "limits" || section == "threads" || section == "log";
    for key in keys().iter().filter(|key| told(key.section)) {
        let (value, default) = ((key.show)(config), (key.show)(&defaults));
        if value != default {
            lines.push(format!("set     {} = {value} (default {default})", key.full()));
        }
    }
    lines.push("ok\n".to_owned());
    lines.join("\n")
}
