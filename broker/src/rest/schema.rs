//! What objects are made of: the one table that `fields`, selectors and the documents of the API
//! are checked and made by.

use hashbrown::HashSet;
use longshore_expression::wildcard;
use serde_json::{Map, Value};

use super::fault::{Code, Fault};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from 0 on.
    Whole,
    /// A whole number from 0 on, or -1 for no bound.
    Bound,
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A JSON object.
    Object,
    /// A JSON array.
    List,
    /// Any JSON, as its description says.
    Any,
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it means, with unit and bounds, for the documents.
    pub about: &'static str,
    /// Whether whoever makes or changes an object may send it.
    pub is_set: bool,
    /// When it is shown.
    pub shown: Shown,
}

/// When a field is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Unless `fields` names others.
    Always,
    /// When `fields` names it.
    Asked,
    /// It is only sent.
    Never,
}

impl Field {
    /// A field that is shown and that the broker alone sets.
    pub const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, about, is_set: false, shown: Shown::Always }
    }

    /// The same, for whoever sends an object to set.
    pub const fn set(self) -> Self {
        Self { is_set: true, ..self }
    }

    /// The same, shown when it is asked for by its name.
    pub const fn asked(self) -> Self {
        Self { shown: Shown::Asked, ..self }
    }

    /// The same, only sent and never shown.
    pub const fn sent(self) -> Self {
        Self { is_set: true, shown: Shown::Never, ..self }
    }
}

/// A kind of object.
#[derive(Debug)]
pub struct Object {
    /// Its name in the documents.
    pub name: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Whether there may be others beside these.
    pub is_open: bool,
}

/// What DELETE answers with: no object, but the number that one had (specification of the modules,
/// R2.19).
pub static NUMBER: Object = Object { name: "Number", fields: &[], is_open: false };

impl Object {
    /// Whether it is [`NUMBER`].
    pub(crate) fn is_number(&self) -> bool {
        std::ptr::eq(self, &NUMBER)
    }

    /// Whether the field of this name is part of the state of an object.
    pub(crate) fn has_state(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name && field.shown != Shown::Asked)
    }

    /// Whether whoever makes or changes an object may send these fields.
    ///
    /// # Errors
    /// The first that is not to be set, with those that are.
    pub(crate) fn takes(&self, sent: &Map<String, Value>) -> Result<(), Fault> {
        let is_set =
            |name: &str| self.fields.iter().any(|field| field.is_set && field.name == name);
        match sent.keys().find(|name| !self.is_open && !is_set(name)) {
            Some(name) => Err(self.unknown(name)),
            None => Ok(()),
        }
    }

    /// Nobody may send a field of this name; which ones may be sent.
    pub(crate) fn unknown(&self, name: &str) -> Fault {
        let known = self.fields.iter().filter(|field| field.is_set).map(|field| field.name);
        unknown(name, known)
    }

    /// The field of this name that is shown.
    pub fn shown(&self, name: &str) -> Result<(), Fault> {
        let shown = || self.fields.iter().filter(|field| field.shown != Shown::Never);
        // A member of one that is an object: `configuration.ident`.
        let head = name.split_once('.').map(|(head, _)| head);
        let may_hold = |field: &Field| matches!(field.kind, Kind::Object | Kind::Any);
        let is_it = |it: &Field| it.name == name || (head == Some(it.name) && may_hold(it));
        if self.is_open || shown().any(is_it) {
            return Ok(());
        }
        let known = shown().map(|field| field.name).collect::<Vec<_>>().join(", ");
        Err(Fault::new(Code::Format, format!("no field {name:?}; there are {known}")))
    }
}

/// A field of this name that was sent is none of those that may be.
pub(crate) fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    let reason = format!("{name}: not a field that can be set; there are {known}");
    Fault::new(Code::Format, reason).field(name)
}

/// The fields that are wanted of objects (15.1.5): all that are always shown, or those named.
#[derive(Debug)]
pub struct Fields(Option<Wanted>);

#[derive(Debug, Default)]
struct Wanted {
    names: HashSet<String>,
    /// Fields, and members of each that are wanted of it and nothing else.
    members: Vec<(String, String)>,
    /// Names with wildcards, of objects whose fields are not known before.
    masks: Vec<String>,
}

impl Fields {
    /// Those listed in `text`; all that are always shown if it is not there, or empty.
    pub fn parse(text: Option<&str>, object: &Object) -> Result<Self, Fault> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self(None)) };
        let mut wanted = Wanted::default();
        for name in text.split(',').map(str::trim) {
            object.shown(name)?;
            if object.is_open && name.contains('*') {
                wanted.masks.push(name.to_owned());
            } else if let Some((field, member)) = name.split_once('.')
                && object.fields.iter().any(|it| it.name == field)
            {
                wanted.members.push((field.to_owned(), member.to_owned()));
            } else {
                wanted.names.insert(name.to_owned());
            }
        }
        Ok(Self(Some(wanted)))
    }

    /// Whether this one was asked for by its name.
    pub fn name(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|wanted| wanted.has(name))
    }

    /// The object with nothing else.
    pub fn of(&self, mut object: Map<String, Value>) -> Value {
        let Some(wanted) = &self.0 else { return Value::Object(object) };
        object.retain(|name, value| {
            if wanted.names.contains(name) || wanted.is_masked(name) {
                return true;
            }
            let Value::Object(members) = value else { return false };
            members.retain(|member, _| wanted.has_member(name, member));
            wanted.has(name)
        });
        Value::Object(object)
    }
}

impl Wanted {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.members.iter().any(|(field, _)| field == name)
    }

    fn has_member(&self, name: &str, member: &str) -> bool {
        self.members.iter().any(|(of, wanted)| of == name && wanted == member)
    }

    fn is_masked(&self, name: &str) -> bool {
        self.masks.iter().any(|mask| wildcard::matches(mask, name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static OBJECT: Object = Object {
        name: "Thing",
        fields: &[
            Field::new("id", Kind::Whole, ""),
            Field::new("key", Kind::Text, "").asked(),
            Field::new("flags", Kind::Whole, "").sent(),
            Field::new("configuration", Kind::Object, "").asked(),
        ],
        is_open: false,
    };
    static OPEN: Object = Object { name: "Open", is_open: true, ..OBJECT };

    /// Broker specification, 15.1.5.
    #[test]
    fn fields_choose_and_unknown_ones_are_an_error() {
        let object = || json!({"id": 1, "key": "a"}).as_object().unwrap().clone();
        let rows = [
            (None, Some(json!({"id": 1, "key": "a"}))),
            (Some(""), Some(json!({"id": 1, "key": "a"}))),
            (Some("id"), Some(json!({"id": 1}))),
            (Some("key, id,id"), Some(json!({"id": 1, "key": "a"}))),
            (Some("id,"), None),
            (Some("name"), None),
            (Some("flags"), None),
        ];
        for (text, want) in rows {
            let got = Fields::parse(text, &OBJECT).map(|fields| fields.of(object()));
            assert_eq!(got.ok(), want, "{text:?}");
        }
        let fault = Fields::parse(Some("name"), &OBJECT).unwrap_err();
        assert!(format!("{fault:?}").contains("there are id, key, configuration"), "{fault:?}");
    }

    /// Clients of flespi ask for `configuration.ident`, and for counters as `*_storage`.
    #[test]
    fn members_of_a_field_and_names_with_wildcards_are_chosen() {
        let object = json!({"id": 1, "a_x": 2, "b_x": 3, "key": {"ident": 4},
            "configuration": {"ident": "1", "phone": "2", "a.b": 3}});
        let rows = [
            (&OBJECT, "configuration.ident", Some(json!({"configuration": {"ident": "1"}}))),
            (&OBJECT, "id,configuration.a.b", Some(json!({"id": 1, "configuration": {"a.b": 3}}))),
            (
                &OBJECT,
                "configuration.ident,configuration.phone,configuration.none",
                Some(json!({"configuration": {"ident": "1", "phone": "2"}})),
            ),
            (
                &OBJECT,
                "configuration.ident,configuration",
                Some(json!({"configuration": object["configuration"]})),
            ),
            (&OBJECT, "key.ident", None),
            (&OBJECT, "*", None),
            (&OPEN, "*_x,id", Some(json!({"id": 1, "a_x": 2, "b_x": 3}))),
            (&OPEN, "id.x", Some(json!({}))),
        ];
        for (of, text, want) in rows {
            let fields = Fields::parse(Some(text), of);
            let got = fields.map(|fields| fields.of(object.as_object().unwrap().clone()));
            assert_eq!(got.ok(), want, "{text}");
        }
        let fields = Fields::parse(Some("configuration.ident"), &OBJECT).unwrap();
        assert!(fields.name("configuration") && !fields.name("id"));
    }
}
