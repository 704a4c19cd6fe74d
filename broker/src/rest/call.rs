//! One request, as far as a handler has to do with it: who calls, for which account, and what came
//! along.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{self, HeaderName};
use hyper::{HeaderMap, Method};
use longshore_acl::{Credentials, Principal, Rights, Scope, Token};
use serde_json::{Map, Value};

use super::answer::Outcome;
use super::fault::{Code, Fault};
use super::intake::Received;
use super::query::{Query, json};
use super::route::{Gate, Route};
use super::schema::Fields;
use super::selector::IDS_MAX;
use super::{Api, run};

/// The account that a call is made for, one of the caller's branch (broker specification, 6.8).
pub(crate) const CID: &str = "x-flespi-cid";
/// The program that calls, for logs (15.1.7).
pub(crate) const APP: &str = "x-flespi-app";
/// What the program calls its call, for logs (15.1.7).
pub(crate) const TRACE: &str = "x-flespi-trace";

/// Characters of [`APP`] and of [`TRACE`].
const APP_CHARS_MAX: usize = 64;
const TRACE_CHARS_MAX: usize = 31;

/// Words that may stand before a token.
const SCHEMES: [&str; 2] = ["FlespiToken", "Bearer"];

/// A request whose caller may make it.
pub struct Call {
    pub(crate) api: Arc<Api>,
    /// What it calls.
    pub route: Arc<Route>,
    /// None where no token is needed.
    pub caller: Option<Caller>,
    /// The account it is made for: its lists cover this one and all below it. 0 where no token is
    /// needed.
    pub account: u64,
    /// The parameters of the path, decoded.
    pub(crate) parameters: Vec<String>,
    pub(crate) query: Query,
    pub(crate) body: Received,
    /// Where the client believes to be, with the port.
    pub(crate) host: Option<String>,
    /// Whether it came by TLS.
    pub(crate) is_secure: bool,
}

/// Whose token was shown.
pub struct Caller {
    /// The token.
    pub token: Arc<Token>,
    /// As whom it asks shards.
    pub principal: Principal,
    /// What it may do with topics, and with which objects.
    pub rights: Arc<Rights>,
    /// Where it came from.
    pub host: IpAddr,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) app: Option<String>,
    pub(crate) trace: Option<String>,
}

impl Origin {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Fault> {
        let text = |name: &str, chars_max| match headers.get(name) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Ok(text) if text.len() <= chars_max => Ok(Some(text.to_owned())),
                _ => {
                    let reason = format!("{name} has up to {chars_max} characters of ASCII");
                    Err(Fault::new(Code::Format, reason))
                }
            },
        };
        Ok(Self { app: text(APP, APP_CHARS_MAX)?, trace: text(TRACE, TRACE_CHARS_MAX)? })
    }
}

impl Caller {
    /// Who shows a token from `peer` (15.1.1).
    pub(crate) fn of(api: &Api, headers: &HeaderMap, peer: IpAddr) -> Result<Self, Fault> {
        let shown = headers.get(header::AUTHORIZATION).map(|value| value.to_str());
        // What is no text is no token, and counts as a failure.
        let key = shown.map(|text| key_of(text.unwrap_or("?")));
        let credentials = Credentials { username: key, password: None };
        let (token, principal) = api.accounts.token_of(&credentials, peer)?;
        let rights = api.accounts.rights_of(&token, &principal);
        Ok(Self { token, principal, rights, host: peer.to_canonical() })
    }

    /// A client of MQTT, whose token is asked anew whether it opens anything.
    pub(crate) fn known(api: &Api, principal: &Principal, peer: IpAddr) -> Result<Self, Fault> {
        let (token, principal) = api.accounts.token_known(principal, peer)?;
        let rights = api.accounts.rights_of(&token, &principal);
        Ok(Self { token, principal, rights, host: peer.to_canonical() })
    }

    /// Whether its token opens this route.
    pub(crate) fn check(&self, route: &Route) -> Result<(), Fault> {
        if self.scope(route) == Scope::None {
            let (method, part) = (route.method.name(), route.gate);
            let reason = format!("the token does not open {method} {part}");
            return Err(Fault::new(Code::Forbidden, reason));
        }
        Ok(())
    }

    /// The objects that its token opens on this route.
    pub fn scope(&self, route: &Route) -> Scope {
        match route.gate {
            Gate::Open | Gate::Token => Scope::All,
            Gate::Part(uri) => self.rights.scope(route.method, uri, None),
            Gate::Sub(uri, submodule) => self.rights.scope(route.method, uri, Some(submodule)),
        }
    }

    /// The account that it calls for.
    pub(crate) fn account(&self, api: &Api, headers: &HeaderMap) -> Result<u64, Fault> {
        let Some(value) = headers.get(HeaderName::from_static(CID)) else {
            return Ok(self.token.account);
        };
        let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        let number = number.ok_or_else(|| {
            Fault::new(Code::Format, format!("{CID} is the number of an account"))
        })?;
        if !api.accounts.read().is_in_branch(self.token.account, number) {
            let reason = format!("{CID}: no account of this token's branch");
            return Err(Fault::new(Code::Forbidden, reason));
        }
        Ok(number)
    }
}

/// The key, which may stand alone.
fn key_of(shown: &str) -> &str {
    let shown = shown.trim();
    match shown.split_once(' ') {
        Some((scheme, key)) if SCHEMES.iter().any(|it| it.eq_ignore_ascii_case(scheme)) => {
            key.trim_start()
        }
        _ => shown,
    }
}

impl Call {
    /// The caller, on a route that takes a token.
    pub fn caller(&self) -> Result<&Caller, Fault> {
        let fault = || Fault::new(Code::Unauthorized, "no credentials");
        self.caller.as_ref().ok_or_else(fault)
    }

    /// The parameter at this place of the path.
    pub fn parameter(&self, at: usize) -> &str {
        self.parameters.get(at).map_or("", String::as_str)
    }

    /// The fields that are wanted.
    pub fn fields(&self) -> Result<Fields, Fault> {
        match self.route.gives {
            Some(object) => Fields::parse(self.query.get("fields"), object),
            None => Err(Fault::new(Code::Internal, "the route gives no objects")),
        }
    }

    /// The JSON object of `data`.
    pub fn data(&self) -> Result<Map<String, Value>, Fault> {
        self.query.data(&self.body.bytes)
    }

    /// What another part of REST, of another module perhaps, answers to a GET with this `data`. The
    /// path is that of its route, with the values of its parameters beside it. It is asked with all
    /// rights on what is of `account` and those below: whoever asks passes on what its own caller
    /// may see.
    ///
    /// # Errors
    /// Those of that route; [`Code::NotFound`] where nothing is at that path.
    pub async fn ask(
        &self,
        account: u64,
        path: &str,
        parameters: Vec<String>,
        data: Map<String, Value>,
    ) -> Outcome {
        let Caller { token, principal, host, .. } = self.caller()?;
        let (token, principal, host) = (Arc::clone(token), *principal, *host);
        let rights = Arc::new(Rights::everything());
        let (route, _) = self.api.router.find(&Method::GET, path)?;
        let body = self.api.intake.hold(Value::from(data).to_string().into())?;
        run(Call {
            api: Arc::clone(&self.api),
            route,
            caller: Some(Caller { token, principal, rights, host }),
            account,
            parameters,
            query: Query::parse("")?,
            body,
            host: self.host.clone(),
            is_secure: self.is_secure,
        })
        .await
    }

    /// The objects in the body: an array, or one (15.1.4).
    pub fn objects(&self) -> Result<Vec<Value>, Fault> {
        match json(&self.body.bytes)? {
            Value::Array(objects) if objects.len() > IDS_MAX => {
                Err(Fault::new(Code::TooLarge, format!("an array has up to {IDS_MAX} objects")))
            }
            Value::Array(objects) => Ok(objects),
            object => Ok(vec![object]),
        }
    }

    /// The one object in the body, alone or in an array.
    pub fn object(&self) -> Result<Map<String, Value>, Fault> {
        let mut objects = self.objects()?;
        match (objects.pop(), objects.is_empty()) {
            (Some(Value::Object(object)), true) => Ok(object),
            _ => Err(Fault::bad_request("one object is expected in the body")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broker specification, 15.1.1.
    #[test]
    fn a_key_stands_alone_or_behind_a_word() {
        for shown in ["abc", "FlespiToken abc", "bearer abc", "Bearer  abc", " abc "] {
            assert_eq!(key_of(shown), "abc", "{shown}");
        }
        assert_eq!(key_of("Basic abc"), "Basic abc");
    }

    /// Broker specification, 15.1.7.
    #[test]
    fn names_for_logs_have_bounds() {
        let read = |name: &'static str, length: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "a".repeat(length).parse().unwrap());
            Origin::of(&headers).is_ok()
        };
        assert!(read(APP, 64) && read(TRACE, 31));
        assert!(!read(APP, 65) && !read(TRACE, 32));
    }
}
