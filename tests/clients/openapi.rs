//! schemathesis (PyPI) against the documents of the REST API: what it sends by them, good and bad,
//! is answered as they say.

use super::flespi::Flespi;
use super::process::Process;
use super::tools::{of_python, unwanted};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// Requests for each operation that are made up, beside those at the edges of what it takes.
const EXAMPLES: &str = "4";

/// Broker specification, 15.3.4.
#[test]
fn schemathesis_is_answered_as_the_documents_of_the_api_say() {
    if unwanted() {
        return;
    }
    for module in ["mqtt", "platform", "auth", "storage", "const"] {
        let flespi = Flespi::start();
        let folder = tempfile::tempdir().expect("a folder for what it leaves behind");
        let mut command = of_python("schemathesis");
        command.current_dir(folder.path()).args(["run", "--no-color", "--checks", CHECKS]);
        command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES]);
        command.args(["--seed", "1", "--generation-deterministic"]);
        command.args(["--warnings", "off"]);
        command.args(["--header", &format!("Authorization: FlespiToken {}", flespi.key())]);
        command.arg(format!("{}/{module}/api.json", flespi.url("http")));
        let lines = Process::start(&mut command).finish();
        assert!(lines.iter().any(|line| line.contains("generated")), "{module}: {lines:#?}");
        // The token was of use up to the end, and the broker is in order.
        flespi.stop();
    }
}
