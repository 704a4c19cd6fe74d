//! schemathesis (PyPI) against the documents of the REST API: what it sends by them, good and bad,
//! is answered as they say.

use super::flespi::Flespi;
use super::process::Process;
use super::tools::{of_python, unwanted};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// Requests for each operation that are made up, beside those at the edges of what it takes.
const EXAMPLES: &str = "4";

/// The same of the hub, which has as many operations as all others together.
const HUB_EXAMPLES: &str = "1";

/// Makes one of each object of the hub, so that a selector such as `all`, the example of the
/// documents, means some.
fn fill(flespi: &Flespi) {
    for (path, body) in [
        ("channels", r#"[{"name": "here", "protocol_name": "http"}]"#),
        ("devices", r#"[{"name": "lorry", "device_type_id": 1, "configuration": {"ident": "1"}}]"#),
        ("devices/1/messages", r#"[{"timestamp": 1700000000, "position.speed": 60}]"#),
        (
            "streams",
            r#"[{"name": "on", "configuration": {"protocol": "http", "uri": "http://[::1]/"}}]"#,
        ),
        ("streams/1/devices/1", "[]"),
    ] {
        let answer = flespi.ask("POST", &format!("/gw/{path}"), body);
        assert!(answer["errors"].is_null(), "{path}: {answer}");
    }
}

/// Runs schemathesis against the document of a module.
fn check(module: &str, flespi: Flespi, examples: &str) {
    let folder = tempfile::tempdir().expect("a folder for what it leaves behind");
    let mut command = of_python("schemathesis");
    command.current_dir(folder.path()).args(["run", "--no-color", "--checks", CHECKS]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", examples]);
    command.args(["--seed", "1", "--generation-deterministic"]);
    command.args(["--warnings", "off"]);
    command.args(["--header", &format!("Authorization: FlespiToken {}", flespi.key())]);
    command.arg(format!("{}/{module}/api.json", flespi.url("http")));
    let lines = Process::start(&mut command).finish();
    assert!(lines.iter().any(|line| line.contains("generated")), "{module}: {lines:#?}");
    // Every operation of the document was asked for.
    let number = |word| {
        let text = lines.iter().find_map(|it| it.trim().strip_prefix(word))?;
        text.rsplit('/').next()?.trim().parse::<u32>().ok()
    };
    let (tested, all) = (number("Tested:"), number("Selected:"));
    assert!(tested.is_some() && tested == all, "{module}: {tested:?} of {all:?}, {lines:#?}");
    // The token was of use up to the end, and the broker is in order.
    flespi.stop();
}

/// Broker specification, 15.3.4.
#[test]
fn schemathesis_is_answered_as_the_documents_of_the_api_say() {
    if unwanted() {
        return;
    }
    for module in ["mqtt", "platform", "auth", "storage", "const"] {
        check(module, Flespi::start(), EXAMPLES);
    }
}

/// R2.13 to R2.19.
#[test]
fn schemathesis_is_answered_by_the_hub_as_its_document_says() {
    if unwanted() {
        return;
    }
    let flespi = Flespi::start_with(&[
        ("MODULES__CHANNELS", "true"),
        ("MODULES__REGISTRY", "true"),
        ("MODULES__STREAMS", "true"),
        ("CHANNELS__HOST", "127.0.0.1"),
    ]);
    fill(&flespi);
    check("gw", flespi, HUB_EXAMPLES);
}
