//! `longshore token`: makes, lists and revokes tokens, of a running broker by its REST API, of a
//! stopped one in its data directory.

use std::io::{self, Write};

use longshore::accounts::{Accounts, OpenError, Options};
use longshore::acl::ROOT_ACCOUNT;
use longshore_storage::TablesError;
use serde_json::{Value, json};

use crate::Outcome;
use crate::cli::{TokenCommand, TokenOptions, TokenType};
use crate::config::{MASTER_TOKEN_ENV, Place, Problem};
use crate::data_dir::{DataDir, problem};
use crate::remote::Remote;

/// Does what was asked for.
pub(crate) fn token(command: &TokenCommand) -> Outcome {
    let done = match command {
        TokenCommand::Create { kind, acl, info, ttl, cid, at } => {
            create(*kind, acl.as_deref(), info, *ttl, *cid, at)
        }
        TokenCommand::List { at } => list(at),
        TokenCommand::Revoke { ids, at } => return revoke(ids, at),
    };
    done.map_err(|problem| vec![problem])
}

/// Where the tokens are.
enum Keeper {
    Remote(Remote),
    Local(Box<Accounts>),
}

impl Keeper {
    fn at(options: &TokenOptions) -> Result<Self, Problem> {
        let data = DataDir::at(&options.data.data_dir);
        let environment = std::env::var(MASTER_TOKEN_ENV).ok();
        if let Some(url) = &options.url {
            let key = match &options.token {
                Some(key) => key.clone(),
                None => known_key(&data, environment.as_deref())?,
            };
            return Ok(Self::Remote(Remote::new(url, &key)?));
        }
        data.check_whole()?;
        let master = data.master(environment.as_deref())?;
        data.keep(&master)?;
        let accounts = Accounts::open(data.path(), &master.token, Options::default());
        let accounts = accounts.map_err(|error| {
            let hint = match &error {
                OpenError::Tables(TablesError::InUse) => {
                    ": a broker runs; name its http listener with --url, such as \
                     http://127.0.0.1:8080"
                }
                _ => "",
            };
            problem(data.path(), format!("{error}{hint}"))
        })?;
        Ok(Self::Local(Box::new(accounts)))
    }
}

/// The master token that is there already: what a running broker does not know is of no use.
pub(crate) fn known_key(data: &DataDir, environment: Option<&str>) -> Result<String, Problem> {
    let master = data.master(environment)?;
    if master.is_new {
        let what = "there is no master token here: name one with --token";
        return Err(problem(data.path(), what.to_owned()));
    }
    Ok(master.token.expose().to_owned())
}

fn create(
    kind: TokenType,
    acl: Option<&str>,
    info: &str,
    ttl: u64,
    cid: Option<u64>,
    at: &TokenOptions,
) -> Result<(), Problem> {
    let mut access = json!({"type": kind as u8});
    if let Some(acl) = acl {
        access["acl"] = serde_json::from_str(acl)
            .map_err(|error| everywhere(format!("--acl is no JSON: {error}")))?;
    }
    let body = json!({"info": info, "ttl": ttl, "access": access});
    let (id, key) = match Keeper::at(at)? {
        Keeper::Remote(remote) => {
            let made = remote.ask("POST", "/platform/tokens?fields=id,key", cid, Some(&body))?;
            let text = |name: &str| made[0][name].as_str().unwrap_or_default().to_owned();
            (made[0]["id"].as_u64().unwrap_or_default(), text("key"))
        }
        Keeper::Local(accounts) => {
            let made = accounts.create_token(cid.unwrap_or(ROOT_ACCOUNT), &body);
            let (token, key) = made.map_err(|error| everywhere(error.to_string()))?;
            (token.id, key.expose().to_owned())
        }
    };
    eprintln!("token {id}; its key:");
    say(&format!("{key}\n"));
    Ok(())
}

fn list(at: &TokenOptions) -> Result<(), Problem> {
    let mut tokens = match Keeper::at(at)? {
        Keeper::Remote(remote) => remote.ask("GET", "/platform/tokens/all", None, None)?,
        Keeper::Local(accounts) => {
            let directory = accounts.read();
            directory.tokens().map(|token| Value::Object(token.to_json(None))).collect()
        }
    };
    tokens.sort_by_key(|token| token["id"].as_u64());
    let lines = tokens.iter().map(line);
    say(&lines.collect::<String>());
    Ok(())
}

fn line(token: &Value) -> String {
    let kind = match token["access"]["type"].as_u64() {
        Some(0) => "standard",
        Some(1) => "master",
        _ => "acl",
    };
    let state = if token["enabled"] == true { "on" } else { "off" };
    // What somebody wrote there must not look like another line.
    let info = token["info"].as_str().unwrap_or_default().escape_debug();
    let number = |name: &str| token[name].as_u64().unwrap_or_default();
    format!("{:>8} {:>8} {kind:<8} {state:<3} {info}\n", number("id"), number("cid"))
}

fn revoke(ids: &[u64], at: &TokenOptions) -> Outcome {
    let keeper = Keeper::at(at).map_err(|problem| vec![problem])?;
    let revoke = |id: &u64| match &keeper {
        Keeper::Remote(remote) => {
            remote.ask("DELETE", &format!("/platform/tokens/{id}"), None, None).map(drop)
        }
        Keeper::Local(accounts) => accounts
            .remove_token(*id)
            .map(drop)
            .map_err(|error| everywhere(format!("token {id}: {error}"))),
    };
    let problems: Vec<_> = ids.iter().filter_map(|id| revoke(id).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn everywhere(what: String) -> Problem {
    Problem { place: Place::Everywhere, what }
}

fn say(text: &str) {
    // A reader that is gone has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
}
