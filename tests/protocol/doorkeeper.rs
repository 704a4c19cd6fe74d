//! Who is let in: everybody but one.

use std::net::IpAddr;
use std::sync::Arc;

use longshore_acl::{Authenticate, Credentials, Principal, Refusal};

/// The user name that is refused.
pub(crate) const STRANGER: &str = "stranger";

struct Doorkeeper;

impl Authenticate for Doorkeeper {
    fn authenticate(&self, credentials: &Credentials<'_>, _: IpAddr) -> Result<Principal, Refusal> {
        if credentials.username == Some(STRANGER) {
            return Err(Refusal::BadCredentials);
        }
        Ok(Principal::anonymous())
    }
}

pub(crate) fn doorkeeper() -> Arc<dyn Authenticate> {
    Arc::new(Doorkeeper)
}
