//! Whether and why a message would reach a session.

use longshore_codec::topic;
use serde_json::json;

use super::sessions::stopped;
use crate::questions::ask;
use crate::rest::answer::{Answer, Outcome};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};

pub(super) async fn read(call: Call) -> Outcome {
    let wanted = |name: &'static str| {
        let fault = || Fault::bad_request(format!("{name} is expected in the query"));
        call.query.get(name).filter(|text| !text.is_empty()).map(str::to_owned).ok_or_else(fault)
    };
    let (client_id, name) = (wanted("client_id")?, wanted("topic")?);
    if topic::validate(name.as_bytes()).is_err() {
        return Err(Fault::new(Code::Format, "topic is the name of one").field("topic"));
    }
    let owner = (call.account, client_id.as_str().into());
    let Some(session) = call.api.commons.roster.get(&owner).map(|session| *session) else {
        let answer = json!({
            "reaches": false,
            "reason": "there is no such session",
            "client_id": client_id,
            "cid": call.account,
            "topic": name,
        });
        return Ok(Answer::of([answer]));
    };
    let mailbox = &call.api.mailboxes[session.shard()];
    let answer = ask(mailbox, move |shard, _| shard.explain(session, &name)).await;
    Ok(Answer::of([answer.ok_or_else(stopped)?]))
}
