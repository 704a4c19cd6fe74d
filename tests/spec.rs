//! Every normative statement of MQTT 5.0 and 3.1.1 that binds a server is proved by a test, or a
//! sentence in `tests/spec` says why not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Where citations are looked for: a test or the code it is a unit test of.
const CITING: [&str; 6] =
    ["tests", "codec/src", "codec/tests", "broker/src", "broker/tests", "examples"];

/// Of the statements that bind a server, how many in a hundred a test has to prove.
const PROVED_PERCENT_MIN: usize = 95;

/// A standard: its list, and how a citation of it ends.
struct Standard {
    name: &'static str,
    list: &'static str,
    suffix: &'static str,
    statements_count: usize,
}

const STANDARDS: [Standard; 2] = [
    Standard { name: "MQTT 5.0", list: "tests/spec/mqtt5.txt", suffix: "", statements_count: 251 },
    Standard {
        name: "MQTT 3.1.1",
        list: "tests/spec/mqtt311.txt",
        suffix: " v3.1.1",
        statements_count: 141,
    },
];

struct Statement {
    binds_server: bool,
    excepted: bool,
}

/// The statements of a list by their id. Panics where a line is not of the form of its header.
fn statements(list: &str) -> BTreeMap<String, Statement> {
    let text = fs::read_to_string(root().join(list)).expect("the list is there");
    let mut statements = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split(" | ").collect();
        let (id, party) = (fields[0], fields[1]);
        assert!(is_id(id), "{list}: {line}");
        assert!(["server", "client", "both"].contains(&party), "{list}: {line}");
        assert!((3..=4).contains(&fields.len()), "{list}: {line}");
        let reason = fields.get(3).map(|field| field.strip_prefix("except: "));
        let excepted = match reason {
            None => false,
            Some(Some(reason)) if reason.ends_with('.') => true,
            Some(_) => panic!("{list}: no sentence in {line}"),
        };
        let statement = Statement { binds_server: party != "client", excepted };
        let known = statements.insert(id.to_owned(), statement);
        assert!(known.is_none(), "{list}: {id} comes twice");
    }
    statements
}

/// `MQTT-` and four numbers, as in `MQTT-3.1.0-1`.
fn is_id(id: &str) -> bool {
    let Some(numbers) = id.strip_prefix("MQTT-") else { return false };
    let numbers: Vec<&str> = numbers.split(['.', '-']).collect();
    numbers.len() == 4 && numbers.iter().all(|number| number.parse::<u8>().is_ok())
}

/// What stands in brackets from `[MQTT-` on, in all Rust files of the places named.
///
/// In a file of code only the unit tests at its end prove something; what stands above them is
/// looked up all the same, so that no code explains itself with a statement which does not exist.
fn citations() -> (BTreeSet<String>, Vec<(String, String)>) {
    let mut proofs = BTreeSet::new();
    let mut all = Vec::new();
    for place in CITING {
        for (path, text) in rust_files(&root().join(place)) {
            let is_code = path.contains("/src/");
            let mut proves = !is_code;
            for line in text.lines() {
                proves |= line.contains("mod tests") || line.contains("#[cfg(test)]");
                let comment = line.trim_start().starts_with("//");
                for cited in line.split('[').skip(1).filter(|cited| cited.starts_with("MQTT-")) {
                    let Some((id, _)) = cited.split_once(']') else { continue };
                    if proves && comment {
                        proofs.insert(id.to_owned());
                    }
                    all.push((path.clone(), id.to_owned()));
                }
            }
        }
    }
    (proofs, all)
}

fn rust_files(folder: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.expect("a folder of ours can be read").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path != root().join(file!())
        {
            let text = fs::read_to_string(&path).expect("a file of ours can be read");
            files.push((path.display().to_string(), text));
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_lists_are_complete() {
    for standard in STANDARDS {
        let count = statements(standard.list).len();
        assert_eq!(count, standard.statements_count, "{}", standard.name);
    }
}

#[test]
fn every_citation_is_of_a_statement_that_exists() {
    let mut known = BTreeSet::new();
    for standard in STANDARDS {
        let ids = statements(standard.list).into_keys();
        known.extend(ids.map(|id| format!("{id}{}", standard.suffix)));
    }
    let (_, all) = citations();
    let wrong: Vec<_> = all.iter().filter(|(_, id)| !known.contains(id)).collect();
    assert!(wrong.is_empty(), "no such statements: {wrong:#?}");
}

#[test]
fn every_statement_that_binds_a_server_is_proved_or_excepted() {
    let (proofs, _) = citations();
    let mut open = Vec::new();
    for standard in STANDARDS {
        let statements = statements(standard.list);
        let proved = |id: &str| proofs.contains(&format!("{id}{}", standard.suffix));
        let ours: Vec<_> = statements.iter().filter(|(_, of)| of.binds_server).collect();
        let proved_count = ours.iter().filter(|(id, _)| proved(id)).count();
        let excepted_count = ours.iter().filter(|(_, of)| of.excepted).count();
        println!(
            "{}: {} statements, {} bind a server; {proved_count} are proved by tests, \
             {excepted_count} are excepted",
            standard.name,
            statements.len(),
            ours.len(),
        );
        for (id, of) in &ours {
            assert!(!(of.excepted && proved(id)), "{id} is proved: it needs no exception");
            if !of.excepted && !proved(id) {
                open.push(format!("[{id}{}]", standard.suffix));
            }
        }
        let enough = proved_count * 100 >= ours.len() * PROVED_PERCENT_MIN;
        assert!(enough, "{}: too few are proved, open are {open:?}", standard.name);
    }
    assert!(open.is_empty(), "neither proved nor excepted: {open:?}");
}
