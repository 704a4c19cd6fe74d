//! Many messages as one for each stretch of time (R4.11).

use crate::message::{MICROS, Message, Secs, number};

/// Seconds of a stretch. R4.8 has 60 at least; what draws charts sends as few as 10.
pub(crate) const SECS: std::ops::RangeInclusive<u64> = 10..=1_000_000;

/// What becomes of the numbers of a stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Average,
    Minimum,
    Maximum,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Generalize {
    pub(crate) micros: u64,
    pub(crate) method: Method,
    /// Whether messages come with the newest first.
    pub(crate) reverse: bool,
    stretch: Option<Stretch>,
}

#[derive(Debug)]
struct Stretch {
    begin: u64,
    message: Message<'static>,
    numbers: Vec<(String, f64, u32)>,
}

impl Generalize {
    pub(crate) fn new(secs: u64, method: Method, reverse: bool) -> Self {
        Self { micros: secs * MICROS, method, reverse, stretch: None }
    }

    /// Adds the next message; the one of the stretch that it ends.
    pub(crate) fn add(&mut self, message: &Message<'_>, at: u64) -> Option<Message<'static>> {
        let begin = at / self.micros * self.micros;
        let ended = match &self.stretch {
            Some(stretch) if stretch.begin == begin => None,
            _ => self.end(),
        };
        let stretch = self.stretch.get_or_insert_with(|| Stretch {
            begin,
            message: Message::default(),
            numbers: Vec::new(),
        });
        for (name, json) in message.iter() {
            let Some(value) = number(json) else {
                // The first value of the stretch is the last that comes in reverse.
                if self.reverse || stretch.message.get(name).is_none() {
                    stretch.message.put(name, json);
                }
                continue;
            };
            match stretch.numbers.iter_mut().find(|(known, ..)| known == name) {
                None => stretch.numbers.push((name.to_owned(), value, 1)),
                Some((_, known, count)) => {
                    *count += 1;
                    *known = match self.method {
                        // The sum would lose digits.
                        Method::Average => *known + (value - *known) / f64::from(*count),
                        Method::Minimum => known.min(value),
                        Method::Maximum => known.max(value),
                    };
                }
            }
        }
        ended
    }

    /// The message of the stretch that has begun.
    pub(crate) fn end(&mut self) -> Option<Message<'static>> {
        let Stretch { begin, mut message, numbers } = self.stretch.take()?;
        for (name, value, _) in numbers {
            message.put(&name, &serde_json::Value::from(value).to_string());
        }
        message.put("timestamp", &Secs(begin).to_string());
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(method: Method, reverse: bool) -> Vec<String> {
        let mut all = vec![(60, 1, "a"), (61, 5, "b"), (119, 3, "c"), (200, 7, "d")];
        if reverse {
            all.reverse();
        }
        let mut generalize = Generalize::new(60, method, reverse);
        let mut found = Vec::new();
        for (secs, x, text) in all {
            let json = format!("{{\"timestamp\":{secs},\"t\":\"{text}\",\"x\":{x}}}");
            found.extend(generalize.add(&Message::parse(&json).unwrap(), secs * MICROS));
        }
        found.extend(generalize.end());
        let text = |message: &Message<'_>| {
            let mut out = String::new();
            message.write(&mut out);
            out
        };
        found.iter().map(text).collect()
    }

    /// R4.11.
    #[test]
    fn numbers_are_summed_up_and_of_others_the_first_counts() {
        let last = r#"{"t":"d","timestamp":180,"x":7.0}"#;
        for (method, x) in [(Method::Average, 3), (Method::Minimum, 1), (Method::Maximum, 5)] {
            let first = format!("{{\"t\":\"a\",\"timestamp\":60,\"x\":{x}.0}}");
            assert_eq!(run(method, false), [&*first, last], "{method:?}");
            assert_eq!(run(method, true), [last, &*first], "{method:?}");
        }
    }
}
