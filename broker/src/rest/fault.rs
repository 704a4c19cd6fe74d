//! Why a request was not done, in the form of the answer (broker specification, 15.1.2 and 15.1.3).

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use longshore_acl::{Invalid, Refusal};
use serde_json::{Map, Value};

use crate::accounts::ChangeError;
use crate::clock::Wall;
use crate::tally::Spending;

/// Seconds after which an address that failed too often may try again.
const RETRY_SECS: &str = "60";

/// `code` of an entry of `errors`. The specification has 2 and 3; the others are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// The broker is at fault.
    Internal = 1,
    /// The request makes no sense as a whole: its path, its query, no JSON at all.
    BadRequest = 2,
    /// A value has not the form it must have.
    Format = 3,
    /// No token, or none that opens anything.
    Unauthorized = 4,
    /// The token does not open this.
    Forbidden = 5,
    /// There is no such path, or no such object for whoever asks.
    NotFound = 6,
    /// The path has no such method.
    Method = 7,
    /// More than is taken at once.
    TooLarge = 8,
    /// The body did not come in time.
    Late = 9,
    /// This address, or this account, asks too often.
    TooMany = 10,
    /// A limit of the account forbids another one.
    Quota = 11,
    /// Not now: the disk does not take it, or too many ask at once.
    Unavailable = 12,
}

impl Code {
    /// All of them, with what each means.
    pub(crate) const ALL: [(Self, &str); 12] = [
        (Self::Internal, "the broker is at fault"),
        (Self::BadRequest, "the request makes no sense"),
        (Self::Format, "a value has not the form it must have"),
        (Self::Unauthorized, "no token, or none that opens anything"),
        (Self::Forbidden, "the token does not open this"),
        (Self::NotFound, "no such path, or no such object"),
        (Self::Method, "the path has no such method"),
        (Self::TooLarge, "more than is taken at once"),
        (Self::Late, "the body did not come in time"),
        (Self::TooMany, "asked too often"),
        (Self::Quota, "a limit of the account is reached"),
        (Self::Unavailable, "not now"),
    ];

    /// The status of an answer that has nothing but this.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest | Self::Format => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::Quota => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One entry of `errors`.
#[derive(Debug)]
pub struct Fault {
    /// What kind of fault it is.
    pub code: Code,
    reason: Cow<'static, str>,
    /// The object it is about.
    id: Option<u64>,
    /// The place in the array that was sent.
    index: Option<usize>,
    /// The field it is about.
    field: Option<Box<str>>,
    /// What the head of the answer says beside the status.
    header: Option<Box<(HeaderName, String)>>,
}

impl Fault {
    /// A fault with its cause, for whoever asked.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into(), id: None, index: None, field: None, header: None }
    }

    /// The request makes no sense.
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, reason)
    }

    /// There is no object of this number, for whoever asks.
    pub fn not_found(id: u64) -> Self {
        Self::new(Code::NotFound, "no such object").about(id)
    }

    /// A path that is there, but has only these methods.
    pub(crate) fn only(methods: &str) -> Self {
        let fault = Self::new(Code::Method, format!("this path has {methods}"));
        Self { header: Some(Box::new((header::ALLOW, methods.to_owned()))), ..fault }
    }

    /// A limit of an account is reached until the minute ends.
    pub(crate) fn over(spending: Spending, now: Wall) -> Self {
        let Spending { account, quota } = spending;
        let quota = quota.name();
        let reason = format!("the limit {quota} of account {account} is reached in this minute");
        let secs = 60 - now.0 / 1_000_000 % 60;
        let header = Some(Box::new((header::RETRY_AFTER, secs.to_string())));
        Self { header, ..Self::new(Code::TooMany, reason) }
    }

    /// It is about this object.
    #[must_use]
    pub fn about(self, id: u64) -> Self {
        Self { id: Some(id), ..self }
    }

    /// It is about this place in the array that was sent.
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// It is about this field.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        Self { field: Some(name.into()), ..self }
    }

    pub(crate) fn header(&self) -> Option<&(HeaderName, String)> {
        self.header.as_deref()
    }

    /// The body of an answer that has nothing but this. There is a `result` all the same, for
    /// clients that look into it first.
    pub(crate) fn to_body(&self) -> String {
        format!("{}\n", serde_json::json!({"result": [], "errors": [self.to_json()]}))
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut entry = Map::new();
        entry.insert("code".to_owned(), (self.code as u8).into());
        entry.insert("reason".to_owned(), self.reason.as_ref().into());
        let mut put = |name: &str, value: Option<Value>| {
            value.and_then(|value| entry.insert(name.to_owned(), value))
        };
        // Where no object is meant, `id` is the place in the array for clients that know no index.
        put("id", self.id.or(self.index.map(|at| at as u64)).map(Value::from));
        put("index", self.index.map(Value::from));
        put("field", self.field.as_deref().map(Value::from));
        Value::Object(entry)
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        let reason = invalid.to_string();
        let field = (!invalid.field.is_empty()).then(|| invalid.field.into());
        Self { field, ..Self::new(Code::Format, reason) }
    }
}

impl From<ChangeError> for Fault {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::Invalid(invalid) => return invalid.into(),
            ChangeError::Misplaced(_) => Code::BadRequest,
            ChangeError::NotFound => Code::NotFound,
            ChangeError::Permanent => Code::Forbidden,
            ChangeError::Quota(_) | ChangeError::Full(..) => Code::Quota,
            ChangeError::Tables(_) => Code::Unavailable,
            ChangeError::NoRandomness(_) => Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (code, header) = match refusal {
            Refusal::TooManyFailures => {
                (Code::TooMany, Some((header::RETRY_AFTER, RETRY_SECS.to_owned())))
            }
            Refusal::AccountBlocked => (Code::Forbidden, None),
            _ => (Code::Unauthorized, Some((header::WWW_AUTHENTICATE, "FlespiToken".to_owned()))),
        };
        Self { header: header.map(Box::new), ..Self::new(code, refusal.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_from_1_and_each_is_an_error() {
        for (at, (code, _)) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at + 1);
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    /// Broker specification, 15.1.3; of the modules: R2.14.
    #[test]
    fn an_entry_has_a_code_a_reason_and_what_it_is_about() {
        let fault = Fault::from(Invalid::new("access.acl[2].topic", "missing")).at(3);
        let want = serde_json::json!({"code": 3, "reason": "access.acl[2].topic: missing",
            "id": 3, "index": 3, "field": "access.acl[2].topic"});
        assert_eq!(fault.to_json(), want);
        assert_eq!(fault.about(9).to_json()["id"], 9);
        let want = serde_json::json!({"code": 6, "reason": "no such object", "id": 7});
        assert_eq!(Fault::not_found(7).to_json(), want);
    }
}
