//! Masks: texts in which `%name%` stands for a parameter of a message (R6.17, R6.18).

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::message::Parameters;
use crate::message::parameters::{is_numeric, text};

/// A text with places for parameters of a message: `channels/%channel.id%/%ident%`.
///
/// A `%` that nothing closes, or `%%`, is that character. Names are taken in either spelling:
/// `%channel_id%` is `channel.id`, and `%channel.id%` is `channel_id` of messages that still have
/// that (R0.4, R6.18).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A parameter by its spellings, of which the first that a message has counts.
    Name([String; 3]),
}

impl Mask {
    /// Takes a text apart. Every text is a mask.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            push_text(&mut pieces, before);
            rest = match after.split_once('%') {
                Some(("", after)) => {
                    push_text(&mut pieces, "%");
                    after
                }
                Some((name, after)) => {
                    let spellings =
                        [name.to_owned(), name.replace('_', "."), name.replace('.', "_")];
                    pieces.push(Piece::Name(spellings));
                    after
                }
                None => {
                    push_text(&mut pieces, "%");
                    after
                }
            };
        }
        push_text(&mut pieces, rest);
        Self(pieces)
    }

    /// Whether it is this parameter and nothing else, by this spelling.
    pub(crate) fn is_just(&self, name: &str) -> bool {
        matches!(&self.0[..], [Piece::Name([only, ..])] if only == name)
    }

    /// The text for a message, or nothing if it lacks a parameter, or has an object or array there.
    #[must_use]
    pub fn fill(&self, message: &Parameters<'_>) -> Option<String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Name(spellings) => {
                    let found = spellings.iter().find_map(|name| message.get(name));
                    filled.push_str(&scalar(found?)?);
                }
            }
        }
        Some(filled)
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// A value as text: a string as it is, a number or boolean as in JSON.
fn scalar(json: &RawValue) -> Option<Cow<'_, str>> {
    let is_word = matches!(json.get(), "true" | "false") || json.get().starts_with(is_numeric);
    if is_word { Some(Cow::Borrowed(json.get())) } else { text(json) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Message;

    /// R6.17, R6.18, R0.4.
    #[test]
    fn a_mask_takes_parameters_in_either_spelling() {
        let message = json!({
            "ident": "35397", "channel.id": 7, "device.name": "Truck 1", "vehicle.vin": "VIN",
            "device.type.id": 3, "position.valid": true, "device_group": "old", "cells": [1],
            "nothing": null, "quoted": "a\"b",
        });
        let message = Message::new(message.as_object().unwrap().clone());
        let rows = [
            ("channels/%channel_id%/device/%ident%", Some("channels/7/device/35397")),
            ("my-retranslator-%ident%", Some("my-retranslator-35397")),
            ("%device_name%", Some("Truck 1")),
            ("%device.name%", Some("Truck 1")),
            ("%device_type_id%", Some("3")),
            ("%device.group%", Some("old")),
            ("%vehicle.vin%/%position.valid%", Some("VIN/true")),
            ("%missing%", None),
            ("a/%ident%/%missing%", None),
            ("%cells%", None),
            ("%nothing%", None),
            ("%quoted%", Some("a\"b")),
            ("100%", Some("100%")),
            ("100%% of %ident%", Some("100% of 35397")),
            ("", Some("")),
        ];
        for (mask, filled) in rows {
            let found = Mask::new(mask).fill(&message.parameters());
            assert_eq!(found.as_deref(), filled, "{mask}");
        }
    }
}
