//! `http`: messages as JSON in the body of a request. It is what HTTP streams send, so a stream of
//! one hub feeds a channel of another (R10.1 to R10.5).

use crate::protocol::fields::{FieldError, Values};
use crate::protocol::objects::{IDENT, NAMES, Objects, PATH, SKIP_INVALID};
use crate::protocol::{Error, Intake, Protocol, Request, Requests, Step};

/// The row of this protocol. The names of its fields are our own: those of the original are not
/// public. \[inferred\]
pub static PROTOCOL: Protocol = Protocol {
    id: 1,
    name: "http",
    title: "HTTP",
    description: "Messages as JSON in the body of a POST: an object or a list of objects",
    transports: &["http"],
    fields: &[PATH, IDENT, NAMES, SKIP_INVALID],
    parameters: &[
        "position.latitude",
        "position.longitude",
        "position.altitude",
        "position.speed",
        "position.direction",
        "position.satellites",
        "position.hdop",
        "position.valid",
        "driver.message",
        "message.type",
    ],
    commands: &[],
    intake,
};

fn intake(values: &Values) -> Result<Intake, FieldError> {
    Ok(Intake::Requests(Box::new(Http { objects: Objects::configure(values)? })))
}

struct Http {
    objects: Objects,
}

impl Requests for Http {
    /// The path and the headers say nothing: the body alone counts (R10.1).
    fn request(&self, request: &Request<'_>) -> Result<Step, Error> {
        if request.method != "POST" {
            return Err(Error::violation("messages are sent with POST"));
        }
        self.objects.read(request.body, None)
    }
}
