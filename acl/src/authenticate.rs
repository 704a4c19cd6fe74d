//! The gate: credentials in, principal or refusal out.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use crate::credentials::Credentials;
use crate::principal::Principal;
use crate::token::MasterToken;

/// Decides who a client is. Called once per connection, from any thread; it must not block.
pub trait Authenticate: Send + Sync {
    /// The principal behind `credentials`, shown from `peer`: the real address, where a proxy in
    /// between said which that is.
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
    ) -> Result<Principal, Refusal>;

    /// The class of a session that was there before this process began: what its token opens now.
    fn class_of(&self, principal: &Principal) -> u32 {
        principal.class
    }

    /// Whether `by` may take over the session of `of`, or end it: both are of one account and show
    /// the same client identifier.
    fn may_take_over(&self, _of: &Principal, _by: &Principal) -> bool {
        true
    }

    /// The account whose token a client shows that is not let in, and whether that account is
    /// blocked: who may hear of it.
    fn refused_of(&self, _credentials: &Credentials<'_>) -> Option<(u64, bool)> {
        None
    }

    /// What a client is told of its token at CONNACK, if anything: never its key.
    fn describe(&self, _token: u64) -> Option<serde_json::Value> {
        None
    }
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It showed nothing, and something is needed.
    NoCredentials,
    /// What it showed is not a token known here.
    BadCredentials,
    /// Its token has come to its end.
    Expired,
    /// Its token is switched off.
    Disabled,
    /// Its token may not be shown from this address.
    AddressNotAllowed,
    /// Its account, or one above it, is blocked for now.
    AccountBlocked,
    /// This address failed too often of late.
    TooManyFailures,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCredentials => "no credentials",
            Self::BadCredentials => "bad credentials",
            Self::Expired => "the token has expired",
            Self::Disabled => "the token is disabled",
            Self::AddressNotAllowed => "the token does not allow this address",
            Self::AccountBlocked => "the account is blocked",
            Self::TooManyFailures => "too many failures from this address",
        })
    }
}

impl Error for Refusal {}

/// Lets in who shows the master token, as user name or as password.
#[derive(Debug, Clone)]
pub struct MasterOnly {
    token: MasterToken,
}

impl MasterOnly {
    /// The gate that knows this token and no other.
    pub fn new(token: MasterToken) -> Self {
        Self { token }
    }
}

impl Authenticate for MasterOnly {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        _peer: IpAddr,
    ) -> Result<Principal, Refusal> {
        if credentials.is_empty() {
            return Err(Refusal::NoCredentials);
        }
        if credentials.candidates().any(|text| self.token.matches(text)) {
            return Ok(Principal::master());
        }
        Err(Refusal::BadCredentials)
    }
}

/// Lets everybody in as the root account. Who shows the master token still is known by it.
#[derive(Debug, Clone, Default)]
pub struct Anonymous {
    token: Option<MasterToken>,
}

impl Anonymous {
    /// The gate without a token: every client is anonymous.
    pub fn new() -> Self {
        Self::default()
    }

    /// The gate that still knows the holder of this token.
    pub fn with_token(token: MasterToken) -> Self {
        Self { token: Some(token) }
    }
}

impl Authenticate for Anonymous {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        _peer: IpAddr,
    ) -> Result<Principal, Refusal> {
        let known = |token: &MasterToken| credentials.candidates().any(|text| token.matches(text));
        Ok(match &self.token {
            Some(token) if known(token) => Principal::master(),
            _ => Principal::anonymous(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn token() -> MasterToken {
        "a1".repeat(32).parse().unwrap()
    }

    fn check(gate: &dyn Authenticate, rows: &[(Option<&str>, Option<&str>, Outcome)]) {
        for (username, password, want) in rows {
            let shown = Credentials { username: *username, password: password.map(str::as_bytes) };
            assert_eq!(gate.authenticate(&shown, PEER), *want, "{username:?} {password:?}");
        }
    }

    type Outcome = Result<Principal, Refusal>;

    const MASTER: Outcome = Ok(Principal::master());
    const ANONYMOUS: Outcome = Ok(Principal::anonymous());
    const NONE: Outcome = Err(Refusal::NoCredentials);
    const BAD: Outcome = Err(Refusal::BadCredentials);

    #[test]
    fn the_master_token_opens_in_either_field_bare_or_prefixed() {
        let bare = token().expose().to_owned();
        let prefixed = format!("FlespiToken {bare}");
        let rows = [
            (Some(bare.as_str()), None, MASTER),
            (Some(&prefixed), None, MASTER),
            (None, Some(bare.as_str()), MASTER),
            (Some("anything"), Some(&prefixed), MASTER),
            (Some(""), Some(&bare), MASTER),
            (Some(&bare[..63]), None, BAD),
            (Some("guest"), Some("guest"), BAD),
            (Some("FlespiToken "), None, BAD),
            (None, None, NONE),
            (Some(""), None, NONE),
            (Some(""), Some(""), NONE),
        ];
        check(&MasterOnly::new(token()), &rows);
    }

    #[test]
    fn an_open_gate_lets_everybody_in_and_still_knows_the_master() {
        let bare = token().expose().to_owned();
        let rows = [
            (Some(bare.as_str()), None, MASTER),
            (Some("guest"), Some("guest"), ANONYMOUS),
            (Some(""), None, ANONYMOUS),
            (None, None, ANONYMOUS),
        ];
        check(&Anonymous::with_token(token()), &rows);
        check(&Anonymous::new(), &[(Some(&bare), None, ANONYMOUS)]);
    }
}
