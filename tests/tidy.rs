//! The rules of the house that no compiler checks: what may import what, and how a file looks.
//!
//! Each rule reads every line of the tree and names file and line of what breaks it.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold our sources.
const FOLDERS: [&str; 13] = [
    "src",
    "codec",
    "acl",
    "broker",
    "expression",
    "storage",
    "channels",
    "streams",
    "registry",
    "tests",
    "benches",
    "examples",
    "fuzz/fuzz_targets",
];

const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;

/// Names that say nothing, and promises that belong into the tracker. Spelt in halves, for this
/// file is read too.
const BANNED: [[&str; 2]; 5] =
    [["util", "s"], ["help", "er"], ["man", "ager"], ["fix", "me"], ["todo", "!"]];

/// What touches the world: runtimes, sockets, files, threads.
const WORLD: [&str; 12] = [
    "tokio",
    "hyper",
    "rustls",
    "tungstenite",
    "socket2",
    "rustix",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::thread",
];

/// What asks for the time. A name is enough: nobody who is handed the time needs these types.
const CLOCKS: [&str; 3] = ["Instant::now", "SystemTime", "UNIX_EPOCH"];

/// Folders and files of the broker that drive the shard, and so may touch the world.
const DRIVERS: [&str; 10] = [
    "broker/src/accounts",
    "broker/src/questions.rs",
    "broker/src/net/",
    "broker/src/rest",
    "broker/src/broker",
    "broker/src/link.rs",
    "broker/src/module.rs",
    "broker/src/link/",
    "broker/src/store.rs",
    "broker/src/store/",
];

/// Files of the log that drive it, and so may touch the world, and the tables beside it.
const LOG_DRIVERS: [&str; 3] =
    ["storage/src/disk/system.rs", "storage/src/committer.rs", "storage/src/tables"];

/// The part of channels that is without I/O.
const PROTOCOLS: [&str; 3] =
    ["channels/src/protocol", "channels/src/message", "channels/src/parameter"];

/// The only file of the broker that asks for the time.
const CLOCK: &str = "broker/src/clock.rs";

struct File {
    /// From the root of the workspace, with `/`.
    path: String,
    text: String,
}

impl File {
    /// Lines of code with their numbers: no comments, and nothing from the unit tests on, which
    /// stand at the end and are free.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_in(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut paths);
    }
    let at_root = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(at_root.filter(|path| path.is_file() && is_ours(path)));
    paths.sort();
    assert!(paths.len() > 20, "the sources were not found under {}", root.display());
    paths
        .into_iter()
        .map(|path| File {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"),
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" && name != "node_modules" {
            collect(&path, paths);
        } else if path.is_file() && is_ours(&path) {
            paths.push(path);
        }
    }
}

fn is_ours(path: &Path) -> bool {
    path.extension().is_some_and(|it| ["rs", "toml", "md"].iter().any(|ours| it == *ours))
}

/// Fails with every line that `rule` finds fault with.
fn check(rule: &str, broken: impl Fn(&File) -> Vec<(usize, String)>) {
    let found: Vec<String> = files()
        .iter()
        .flat_map(|file| {
            let place = |(line, what)| format!("  {}:{line}: {what}", file.path);
            broken(file).into_iter().map(place).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{rule}\n{}", found.join("\n"));
}

/// Lines of code in which one of `words` stands as a word of its own.
fn uses(file: &File, words: &[&str]) -> Vec<(usize, String)> {
    file.code()
        .filter(|(_, line)| words.iter().any(|word| has_word(line, word)))
        .map(|(at, line)| (at, line.trim().to_owned()))
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[test]
fn codec_acl_and_expression_touch_no_runtime_no_file_no_socket_no_clock() {
    check("codec, acl and expression only compute", |file| {
        let is_pure = file.is_in(&["codec/src/", "acl/src/", "expression/src/"]);
        if is_pure && !file.is_test() {
            uses(file, &[&WORLD[..], &CLOCKS].concat())
        } else {
            vec![]
        }
    });
}

/// What a channel is made of later, sockets and tables, stands beside these and not in them.
#[test]
fn protocols_and_messages_touch_no_runtime_no_file_no_socket_no_clock() {
    check("a protocol only computes: bytes in, messages and answers out", |file| {
        let is_pure = file.is_in(&PROTOCOLS);
        if is_pure && !file.is_test() {
            uses(file, &[&WORLD[..], &CLOCKS, &["longshore_broker", "async", "await"]].concat())
        } else {
            vec![]
        }
    });
}

#[test]
fn only_the_driver_of_the_broker_touches_the_world() {
    check("the shard is a machine without I/O: this belongs into broker/src/net", |file| {
        let is_machine = file.is_in(&["broker/src/"]) && !file.is_in(&DRIVERS);
        if is_machine && !file.is_test() { uses(file, &WORLD) } else { vec![] }
    });
}

#[test]
fn the_log_is_a_machine_without_runtime_thread_and_clock() {
    check("storage has no runtime; its disk touches files, its committer has the thread", |file| {
        let is_machine = file.is_in(&["storage/src/"]) && !file.is_in(&LOG_DRIVERS);
        let is_free = !is_machine || file.is_test();
        if is_free { vec![] } else { uses(file, &[&WORLD[..], &CLOCKS, &["thread"]].concat()) }
    });
}

#[test]
fn the_broker_asks_for_the_time_in_one_place() {
    check("the time is handed in; only the clock asks for it", |file| {
        let is_told = file.is_in(&["broker/src/"]) && file.path != CLOCK;
        if is_told && !file.is_test() { uses(file, &CLOCKS) } else { vec![] }
    });
}

#[test]
fn nothing_in_the_shard_is_async() {
    check("the machine is synchronous", |file| {
        let is_machine = file.is_in(&["broker/src/"]) && !file.is_in(&DRIVERS);
        if is_machine && !file.is_test() { uses(file, &["async", "await"]) } else { vec![] }
    });
}

#[test]
fn every_file_says_what_it_is() {
    check("a file begins with //!", |file| {
        let is_silent = file.is_rust() && !file.text.starts_with("//! ");
        if is_silent { vec![(1, "no //! at the start".to_owned())] } else { vec![] }
    });
}

#[test]
fn lines_fit_a_screen() {
    check("lines have at most 100 columns", |file| {
        // A table of Markdown cannot be broken.
        let is_table = |line: &str| !file.is_rust() && line.starts_with('|');
        file.lines()
            .filter(|(_, line)| line.chars().count() > COLUMNS_MAX && !is_table(line))
            .map(|(at, line)| (at, format!("{} columns", line.chars().count())))
            .collect()
    });
}

#[test]
fn sources_are_ascii() {
    check("what is not ASCII is written as an escape", |file| {
        file.lines()
            .filter(|(_, line)| !line.is_ascii())
            .map(|(at, line)| (at, line.trim().to_owned()))
            .collect()
    });
}

#[test]
fn lines_end_where_their_text_does() {
    check("no blanks at line ends, no tabs, one newline at the end", |file| {
        let mut broken: Vec<_> = file
            .lines()
            .filter(|(_, line)| line.trim_end() != *line || line.contains('\t'))
            .map(|(at, _)| (at, "blank at the end, or a tab".to_owned()))
            .collect();
        if !file.text.ends_with('\n') || file.text.ends_with("\n\n") {
            broken.push((file.text.lines().count(), "the last line".to_owned()));
        }
        broken
    });
}

#[test]
fn files_are_of_a_readable_size() {
    check("files have at most 600 lines: two things are two files", |file| {
        let lines = file.text.lines().count();
        if file.is_rust() && lines > FILE_LINES_MAX {
            vec![(lines, format!("{lines} lines"))]
        } else {
            vec![]
        }
    });
}

#[test]
fn functions_fit_a_screen() {
    check("functions have at most 70 lines", |file| {
        let lines: Vec<&str> = file.text.lines().collect();
        let begins = |line: &&str| {
            let code = line.trim_start();
            !code.starts_with("//") && has_word(code.split('(').next().unwrap_or(""), "fn")
        };
        let starts = lines.iter().enumerate().filter(|(_, line)| begins(line));
        starts
            .filter(|_| file.is_rust())
            .filter_map(|(at, line)| {
                let indent = &line[..line.len() - line.trim_start().len()];
                let rest = &lines[at..];
                // Formatted code closes a function at the indentation it was opened at; one that
                // is a single line or a signature is followed by something else there.
                let next = rest.iter().skip(1).position(|it| {
                    it.strip_prefix(indent).is_some_and(|it| !it.starts_with([' ', ')', '{', 'w']))
                })? + 1;
                let length = next + 1;
                let closes = rest[next].strip_prefix(indent) == Some("}");
                (closes && length > FUNCTION_LINES_MAX)
                    .then(|| (at + 1, format!("{length} lines: {}", line.trim())))
            })
            .collect()
    });
}

#[test]
fn names_say_what_a_thing_is() {
    let banned = BANNED.map(|halves| halves.concat());
    check("words that say nothing", |file| {
        let is_free = file.path.ends_with(".md");
        file.lines()
            .filter(|_| !is_free)
            .filter(|(_, line)| banned.iter().any(|word| line.to_lowercase().contains(word)))
            .map(|(at, line)| (at, line.trim().to_owned()))
            .collect()
    });
}

/// The rules themselves: a rule that never finds anything holds nothing.
#[test]
fn words_are_found_as_words_only() {
    assert!(has_word("use tokio::net;", "tokio") && has_word("tokio", "tokio"));
    assert!(!has_word("use tokio_rustls::x;", "tokio") && !has_word("atokio", "tokio"));
    assert!(has_word("let now = Instant::now();", "Instant::now"));
    let file = File {
        path: "codec/src/x.rs".to_owned(),
        text: "// std::fs\nuse std::fs::File;\n#[cfg(test)]\nuse std::fs::read;\n".to_owned(),
    };
    assert_eq!(uses(&file, &WORLD), [(2, "use std::fs::File;".to_owned())]);
}
