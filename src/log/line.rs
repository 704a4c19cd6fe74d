//! A record as one line of text or JSON, safe to show on a terminal whatever a client put into it.
//!
//! Nothing that moves a cursor, hides, reorders or breaks a line gets through: control characters
//! (newline and escape among them), bidirectional controls, invisible and separating characters
//! are written as escapes. Long texts are cut.

use std::fmt::{self, Write};
use std::time::SystemTime;

use super::{FieldValue, Record};
use crate::config::LogFormat;

/// Bytes kept of one text: a client id may have 65,535.
const TEXT_BYTES_MAX: usize = 512;

/// A text that keeps its beginning and counts the rest.
#[derive(Default)]
pub(super) struct Capped {
    kept: String,
    cut_bytes: usize,
}

impl Capped {
    pub(super) fn push(&mut self, text: &str) {
        let room = if self.cut_bytes > 0 { 0 } else { TEXT_BYTES_MAX - self.kept.len() };
        let end = text.floor_char_boundary(room);
        self.kept.push_str(&text[..end]);
        self.cut_bytes += text.len() - end;
    }

    /// The text that a `Debug` of a text stands for; other texts stay as they are. Its escapes are
    /// undone because the line has its own, and a text is not to be escaped twice.
    pub(super) fn unquoted(mut self) -> Self {
        if let Some(quoted) = self.kept.strip_prefix('"') {
            let quoted = if self.cut_bytes > 0 { Some(quoted) } else { quoted.strip_suffix('"') };
            if let Some(text) = quoted.map(unescape) {
                self.kept = text;
            }
        }
        self
    }

    pub(super) fn into_string(mut self) -> String {
        if self.cut_bytes > 0 {
            self.kept.push_str(&format!("... {} bytes more", self.cut_bytes));
        }
        self.kept
    }
}

impl Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// What Rust's `Debug` escaped, as it was; an escape cut in its middle is left out.
fn unescape(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    while let Some(c) = rest.next() {
        let plain = match (c, rest.as_str().chars().next()) {
            ('\\', Some('u')) => {
                let hex: String = rest.by_ref().skip(2).take_while(|c| *c != '}').collect();
                u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)
            }
            ('\\', escaped) => {
                rest.next();
                let table = [('n', '\n'), ('r', '\r'), ('t', '\t'), ('0', '\0')];
                let control = table.iter().find(|(name, _)| Some(*name) == escaped);
                control.map(|(_, control)| *control).or(escaped)
            }
            (plain, _) => Some(plain),
        };
        text.extend(plain);
    }
    text
}

/// The line of `record`, its end of line included. `times` other than 1 says that it stands for
/// so many like it.
pub(super) fn format(record: &Record, times: u64, form: LogFormat) -> String {
    let mut line = String::with_capacity(256);
    match form {
        LogFormat::Compact => compact(&mut line, record, times),
        LogFormat::Json => json(&mut line, record, times),
    }
    line.push('\n');
    line
}

fn compact(line: &mut String, record: &Record, times: u64) {
    push_time(line, record.time);
    line.push_str(&format!(" {:<5} ", record.level));
    push_escaped(line, &record.message);
    for (name, value) in &record.fields {
        if !line.ends_with(' ') {
            line.push(' ');
        }
        line.push_str(name);
        line.push('=');
        match value {
            FieldValue::Text(text) if needs_quotes(text) => push_quoted(line, text, push_escape),
            value => line.push_str(value.as_str()),
        }
    }
    if times != 1 {
        line.push_str(&format!(" times={times}"));
    }
}

fn json(line: &mut String, record: &Record, times: u64) {
    line.push_str("{\"time\":\"");
    push_time(line, record.time);
    line.push_str(&format!("\",\"level\":\"{}\",\"target\":", record.level));
    push_quoted(line, record.target, push_json_escape);
    line.push_str(",\"message\":");
    push_quoted(line, &record.message, push_json_escape);
    for (name, value) in &record.fields {
        line.push(',');
        push_quoted(line, name, push_json_escape);
        line.push(':');
        match value {
            FieldValue::Plain(text) => line.push_str(text),
            FieldValue::Text(text) => push_quoted(line, text, push_json_escape),
        }
    }
    if times != 1 {
        line.push_str(&format!(",\"times\":{times}"));
    }
    line.push('}');
}

fn push_time(line: &mut String, time: SystemTime) {
    line.push_str(&humantime::format_rfc3339_micros(time).to_string());
}

/// Whether a text would not stand out as one value between spaces.
fn needs_quotes(text: &str) -> bool {
    let apart = |c: char| c.is_whitespace() || matches!(c, '"' | '=' | '\\') || is_hostile(c);
    text.is_empty() || text.chars().any(apart)
}

fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        if is_hostile(c) { push_escape(line, c) } else { line.push(c) }
    }
}

fn push_quoted(line: &mut String, text: &str, escape: fn(&mut String, char)) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c if is_hostile(c) => escape(line, c),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// As Rust writes it: `\n`, `\u{1b}`.
fn push_escape(line: &mut String, c: char) {
    line.extend(c.escape_default());
}

/// As JSON writes it: `\u001b`, in surrogates past the first 65,536 characters.
fn push_json_escape(line: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        line.push_str(&format!("\\u{unit:04x}"));
    }
}

/// Characters that act on a reader's screen instead of standing on it.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero width, left-to-right and right-to-left marks; line and paragraph separators,
            // embeddings, overrides; invisible operators, isolates, deprecated controls.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotation, tags, private use and noncharacters.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{e0fff}' | '\u{fffe}'..='\u{ffff}' | '\u{f0000}'..
        )
}
