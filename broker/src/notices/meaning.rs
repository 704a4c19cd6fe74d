//! What numbers in logs mean, for tools that show them (specification of the broker, 7.4).

/// How much it concerns whoever reads a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It goes on as it should.
    Info,
    /// Something has begun, or was done.
    Notice,
    /// Something has changed or ended, and somebody may want to know.
    Warning,
    /// Something does not work.
    Alert,
}

/// Events that have the same `event_code`.
#[derive(Clone, Copy, Debug)]
pub struct EventKind {
    /// That code. Modules that say the same have the same code for it.
    pub code: u64,
    /// How much they concern whoever reads the log.
    pub severity: Severity,
    /// What has happened, in a few words for people.
    pub about: &'static str,
    /// The field of their records that says more by a number, and what its values mean. Others may
    /// stand there; 0 and nothing say no more.
    pub details: Option<(&'static str, &'static [Detail])>,
}

/// What a value of such a field means.
#[derive(Clone, Copy, Debug)]
pub struct Detail {
    /// The value.
    pub value: i64,
    /// How much an event with it concerns whoever reads the log.
    pub severity: Severity,
    /// What it says, in a few words for people.
    pub about: &'static str,
}

impl Severity {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Alert => "alert",
        }
    }
}

impl EventKind {
    /// Events of which the code says all.
    pub const fn new(code: u64, severity: Severity, about: &'static str) -> Self {
        Self { code, severity, about, details: None }
    }

    /// The same, where a field says more.
    #[must_use]
    pub const fn with(self, field: &'static str, values: &'static [Detail]) -> Self {
        Self { details: Some((field, values)), ..self }
    }
}

impl Detail {
    /// A value and what it means.
    pub const fn new(value: i64, severity: Severity, about: &'static str) -> Self {
        Self { value, severity, about }
    }
}
