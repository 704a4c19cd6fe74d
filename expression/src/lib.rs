//! The expression language of flespi over JSON: `speed > 50 && device.name == "truck*"`.
//!
//! An [`Expression`] is compiled once and evaluated often, over [`Parameters`], of which a
//! `serde_json::Value` is one kind, and within a [`Budget`]. The crate knows nothing of MQTT; it
//! does no I/O and keeps no clock. The usual comparison allocates nothing.
//!
//! ```
//! use longshore_expression::{Budget, Expression, Value};
//!
//! let fast: Expression = "speed > 50 && device.name == 'truck*'".parse()?;
//! let message = serde_json::json!({"speed": 62, "device.name": "truck 7"});
//! assert!(fast.is_true(&message, &mut Budget::default()));
//! // A missing parameter is an error, and an error is not true.
//! assert!(!fast.is_true(&serde_json::json!({}), &mut Budget::default()));
//!
//! let knots = Expression::parse("round(speed / 1.852)")?;
//! assert_eq!(knots.evaluate(&message, &mut Budget::default()), Ok(Value::Number(33.0)));
//! # Ok::<(), longshore_expression::ParseError>(())
//! ```
//!
//! # Values
//!
//! Numbers are IEEE doubles and always finite: what would not be is an error. Not true are `0`,
//! `false`, `null`, an empty string, array or object, and an error.
//!
//! A wrong type is an error: `"a" + 1`, `1 < "a"`. Two exceptions: values of different types are
//! not equal, and `null` compares as false with `<`, `<=`, `>`, `>=` and `~`, so that `$name` lets
//! the rest decide. A boolean is no number. `+` joins two strings. Strings are ordered by code
//! point.
//!
//! # Names
//!
//! Names are of letters, digits, `_` and dots, and do not begin with a digit. `position.speed` is
//! the key `position.speed` if there is one, else `speed` in the object `position`; of several keys
//! that could begin the path the longest is taken. An array is entered by number: `cells.0.id`. An
//! input that is no object has the name `value`.
//!
//! A missing parameter is an error of the whole, unless it is written `$name`: then it is `null`.
//!
//! # Operators
//!
//! As in C, from the loosest:
//!
//! | | |
//! | --- | --- |
//! | `c ? a : b` | the same as `if(c, a, b)` |
//! | `\|\|`, then `&&` | boolean; the right side counts, errors included, only where it decides |
//! | `\|`, then `^`, then `&` | of whole numbers in 64 bits; a fraction is cut off |
//! | `==` or `=`, `!=`, `~` | the first three with wildcards if a literal has any; `~` always |
//! | `<` `<=` `>` `>=` | of two numbers or two strings |
//! | `<<` `>>` | by 0 to 63 bits |
//! | `+` `-` | |
//! | `*` `/` `%` | by zero is an error |
//! | `!` `-` `+` `~` | before their operand; `!x` is `not(x)` |
//!
//! A string stands in single or double quotes, with `\\`, `\/`, `\"`, `\'`, `\n`, `\r`, `\t`, and
//! `\*` and `\?` for characters that are no wildcards. See [`wildcard`] for those and [`functions`]
//! for the functions.
//!
//! # Limits
//!
//! A text has at most [`TEXT_MAX`] bytes and is nested at most [`NESTING_MAX`] deep: brackets,
//! calls, unary operators, and what stands between `?` and `:`. A chain `a || b || c` does not
//! nest. So neither parsing nor evaluation needs more than half a MiB of stack. What an evaluation
//! may cost is bounded by its [`Budget`].

#![forbid(unsafe_code)]

mod budget;
mod error;
mod evaluate;
mod expression;
mod filter;
mod functions;
mod literal;
mod operators;
mod parameters;
mod parser;
mod tree;
mod value;
pub mod wildcard;

pub use budget::{BYTES_PER_STEP, Budget, STEPS_DEFAULT};
pub use error::{EvaluationError, ParseError, Reason};
pub use expression::Expression;
pub use filter::{FILTER_CHARS_MAX, Filter};
pub use functions::{Function, functions};
pub use parameters::Parameters;
pub use parser::{NESTING_MAX, TEXT_MAX};
pub use value::Value;
