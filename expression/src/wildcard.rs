//! Wildcards: `*` is any text, the empty one too, and `?` is exactly one character.
//!
//! The text between two `*` is searched once from left to right, so matching takes time in
//! proportion to the text. Only where `?` stands within such a piece is every place tried, which a
//! [`Budget`] bounds. Case counts.

use crate::budget::Budget;
use crate::error::EvaluationError;

/// Whether the whole text matches the pattern.
///
/// Without a bound: who lets a stranger choose long patterns with `?` and long texts takes a
/// [`Pattern`] and a [`Budget`].
pub fn matches(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).matches(text, &mut Budget::new(u64::MAX)).unwrap_or(false)
}

/// A pattern, taken apart once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// What the text begins with; the whole of it if there is no `*`.
    head: Piece,
    /// What comes in this order after the head, with any text before each.
    middle: Vec<Piece>,
    /// What the text ends with, if there is a `*`.
    tail: Option<Piece>,
}

impl Pattern {
    /// Takes a pattern apart. Every text is a pattern.
    pub fn new(pattern: &str) -> Self {
        let mut builder = Builder::default();
        pattern.chars().for_each(|it| builder.push(it));
        builder.finish()
    }

    /// Whether the whole text matches. Fails if the budget is used up before that is known.
    pub fn matches(&self, text: &str, budget: &mut Budget) -> Result<bool, EvaluationError> {
        budget.charge(1)?;
        let Some(mut rest) = self.head.strip_from_start(text, budget)? else { return Ok(false) };
        let Some(tail) = &self.tail else { return Ok(rest.is_empty()) };
        match tail.strip_from_end(rest, budget)? {
            Some(before) => rest = before,
            None => return Ok(false),
        }
        for piece in &self.middle {
            match piece.strip_first(rest, budget)? {
                Some(behind) => rest = behind,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// A pattern that grows by characters, for those who have escapes of their own.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pieces: Vec<Piece>,
    last: Piece,
}

impl Builder {
    /// Adds a character that may be a wildcard.
    pub(crate) fn push(&mut self, character: char) {
        match character {
            '*' => self.pieces.push(core::mem::take(&mut self.last)),
            '?' => match self.last.parts.last_mut() {
                Some(Part::Any(count)) => *count += 1,
                _ => self.last.parts.push(Part::Any(1)),
            },
            literal => self.push_literal(literal),
        }
    }

    /// Adds a character that stands for itself.
    pub(crate) fn push_literal(&mut self, character: char) {
        if let Some(Part::Text(text)) = self.last.parts.last_mut() {
            text.push(character);
        } else {
            self.last.parts.push(Part::Text(character.into()));
        }
    }

    pub(crate) fn finish(self) -> Pattern {
        let mut pieces = self.pieces.into_iter();
        let Some(head) = pieces.next() else {
            return Pattern { head: self.last, middle: Vec::new(), tail: None };
        };
        // `**` is `*`.
        let middle = pieces.filter(|piece| !piece.parts.is_empty()).collect();
        Pattern { head, middle, tail: Some(self.last) }
    }
}

/// What stands between two `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Piece {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    /// So many characters, whatever they are.
    Any(usize),
}

impl Piece {
    /// What is left behind the piece if the text begins with it.
    fn strip_from_start<'t>(
        &self,
        text: &'t str,
        budget: &mut Budget,
    ) -> Result<Option<&'t str>, EvaluationError> {
        strip(&self.parts, text, budget)
    }

    /// What is left before the piece if the text ends with it.
    fn strip_from_end<'t>(
        &self,
        text: &'t str,
        budget: &mut Budget,
    ) -> Result<Option<&'t str>, EvaluationError> {
        let mut rest = text;
        for part in self.parts.iter().rev() {
            let before = match part {
                Part::Text(wanted) => rest.strip_suffix(wanted.as_str()),
                Part::Any(count) => {
                    rest.char_indices().nth_back(count - 1).map(|(at, _)| &rest[..at])
                }
            };
            let Some(before) = before else { return Ok(None) };
            budget.charge_bytes(rest.len() - before.len())?;
            rest = before;
        }
        Ok(Some(rest))
    }

    /// What is left behind the first place of the text where the piece stands.
    fn strip_first<'t>(
        &self,
        text: &'t str,
        budget: &mut Budget,
    ) -> Result<Option<&'t str>, EvaluationError> {
        let (mut rest, mut parts) = (text, &self.parts[..]);
        if let [leading @ Part::Any(_), behind @ ..] = parts {
            // What follows is then sought where there is room for these characters before it.
            match strip(core::slice::from_ref(leading), rest, budget)? {
                Some(behind) => rest = behind,
                None => return Ok(None),
            }
            parts = behind;
        }
        let [Part::Text(wanted), behind @ ..] = parts else { return Ok(Some(rest)) };
        loop {
            let found = rest.find(wanted.as_str());
            budget.charge_bytes(found.unwrap_or(rest.len()) + wanted.len())?;
            let Some(at) = found else { return Ok(None) };
            if let Some(left) = strip(behind, &rest[at + wanted.len()..], budget)? {
                return Ok(Some(left));
            }
            let mut later = rest[at..].chars();
            later.next();
            rest = later.as_str();
        }
    }
}

fn strip<'t>(
    parts: &[Part],
    text: &'t str,
    budget: &mut Budget,
) -> Result<Option<&'t str>, EvaluationError> {
    let mut rest = text;
    for part in parts {
        let behind = match part {
            Part::Text(wanted) => rest.strip_prefix(wanted.as_str()),
            Part::Any(count) => skip(rest, *count),
        };
        let Some(behind) = behind else { return Ok(None) };
        budget.charge_bytes(rest.len() - behind.len())?;
        rest = behind;
    }
    Ok(Some(rest))
}

fn skip(text: &str, count: usize) -> Option<&str> {
    let mut rest = text.chars();
    rest.nth(count - 1)?;
    Some(rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 14.2.8.
    #[test]
    fn a_star_is_any_text_and_a_question_mark_one_character() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(matches(pattern, text), want, "{pattern} and {text}");
        };
        check("12*45", "12345", true);
        check("12*45", "1245", true);
        check("12*45", "123456", false);
        check("12*45", "125", false);
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("**", "abc", true);
        check("?", "", false);
        check("?", "\u{20ac}", true);
        check("??", "\u{20ac}", false);
        check("a*", "a", true);
        check("a*", "ba", false);
        check("*a", "ba", true);
        check("*a", "ab", false);
        check("*a*", "bab", true);
        check("a*a", "a", false);
        check("*a?c*", "abbabc", true);
        check("*a?c*", "aacc", true);
        check("*aa?*b", "aaab", true);
        check("*?", "", false);
        check("?*?", "ab", true);
        check("?*?", "a", false);
        check("*??a*", "aaa", true);
        check("*??a*", "baa", true);
        check("*??a*", "aab", false);
        check("A*", "a", false);
    }

    #[test]
    fn matching_without_question_marks_takes_steps_in_proportion_to_the_text() {
        let text = "a".repeat(1 << 16);
        let pattern = "a*".repeat(1 << 11) + "b*";
        let mut budget = Budget::new(1 << 13);
        assert_eq!(Pattern::new(&pattern).matches(&text, &mut budget), Ok(false));
    }

    #[test]
    fn trying_every_place_uses_up_the_budget() {
        let text = "a".repeat(1 << 16);
        let pattern = format!("*{}?b*", "a".repeat(1 << 11));
        let mut budget = Budget::default();
        let found = Pattern::new(&pattern).matches(&text, &mut budget);
        assert_eq!(found, Err(EvaluationError::TooManySteps));
        assert_eq!(budget.steps(), 0);
    }
}
