//! What an evaluation may cost, and what time it is.

use crate::error::EvaluationError;

/// Steps of a budget by default: enough for any filter that a person writes, and some milliseconds
/// at most.
pub const STEPS_DEFAULT: u64 = 10_000;

/// Bytes that are read, compared or written for one step.
pub const BYTES_PER_STEP: usize = 64;

/// What an evaluation may cost. Each operator, name and function is a step, and so is each block
/// of [`BYTES_PER_STEP`] that is read, compared or written.
///
/// A budget may serve several evaluations: what one uses the next does not have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    steps: u64,
    now_secs: Option<f64>,
}

impl Budget {
    /// A budget of so many steps, without a clock: `now()` is an error.
    pub const fn new(steps: u64) -> Self {
        Self { steps, now_secs: None }
    }

    /// The same budget with the time that `now()` gives, in seconds since 1970.
    #[must_use]
    pub const fn at(self, now_secs: f64) -> Self {
        Self { now_secs: Some(now_secs), ..self }
    }

    /// Steps that are left.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn now_secs(&self) -> Option<f64> {
        self.now_secs
    }

    pub(crate) fn charge(&mut self, steps: u64) -> Result<(), EvaluationError> {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or(0);
        left.map(drop).ok_or(EvaluationError::TooManySteps)
    }

    /// Charges for work on so many bytes: a step, and one more for each block of them.
    pub(crate) fn charge_bytes(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.charge(1 + (bytes / BYTES_PER_STEP) as u64)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(STEPS_DEFAULT)
    }
}
