//! `/{module}/api.json`: what the routes are, made of the very table that the router is made of.

use std::collections::BTreeSet;

use bytes::Bytes;
use longshore_acl::Method;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome};
use super::call::{APP, CID, Call, TRACE};
use super::fault::Code;
use super::route::{Gate, Handler, Route, Router, Takes};
use super::schema::{Field, Kind, Object, Shown};

/// What the path of a document ends in.
pub(super) const NAME: &str = "/api.json";

/// A document's route.
pub(super) const fn document(path: &'static str) -> Route {
    Route {
        method: Method::Get,
        path,
        about: "Read this document",
        gate: Gate::Open,
        takes: Takes::Nothing,
        gives: None,
        handler: Handler::Waiting(|call| Box::pin(async move { read(&call) })),
    }
}

/// The routes of this module, one for each other module.
pub(super) static ROUTES: &[&[Route]] = &[&[
    document("/mqtt/api.json"),
    document("/platform/api.json"),
    document("/auth/api.json"),
    document("/storage/api.json"),
    document("/const/api.json"),
]];

fn read(call: &Call) -> Outcome {
    Ok(Answer::document(call.api.router.document(call.route.module())))
}

/// The document of a module, as it is sent.
pub(super) fn write(router: &Router, module: &str) -> Bytes {
    Bytes::from(format!("{}\n", describe(router, module)))
}

fn describe(router: &Router, module: &str) -> Value {
    let mut paths = Map::new();
    let mut objects: Vec<&Object> = Vec::new();
    for route in router.routes().filter(|route| route.module() == module) {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.name().to_lowercase()] = operation(route);
        let takes = match route.takes {
            Takes::Nothing => None,
            Takes::One(object) | Takes::Many(object) | Takes::Data(object) => Some(object),
        };
        let gives = route.gives.filter(|object| !object.is_number());
        objects.extend(takes.into_iter().chain(gives));
    }
    let mut schemas = Map::new();
    for object in objects {
        let shown = object.fields.iter().filter(|field| field.shown != Shown::Never);
        schemas.insert(object.name.to_owned(), schema(object, shown));
        let set = object.fields.iter().filter(|field| field.is_set);
        schemas.insert(sent_name(object), schema(object, set));
    }
    schemas.insert("Errors".to_owned(), errors());
    json!({
        "openapi": "3.0.3",
        "info": {"title": format!("Longshore {module}"), "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {
                "type": "apiKey", "in": "header", "name": "Authorization",
                "description": "FlespiToken and the key of a token",
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.about,
        "operationId": operation_id(route),
        "parameters": parameters(route),
        "responses": {"200": {"description": "what was asked for"}},
    });
    if let Some(object) = route.gives {
        let item = if object.is_number() { number() } else { reference(object.name) };
        let result = json!({"type": "object", "properties": {
            "result": {"type": "array", "items": item},
            "errors": reference("Errors"),
        }});
        operation["responses"]["200"]["content"] = json!({"application/json": {"schema": result}});
    }
    for code in refusals(route) {
        let about = Code::ALL.iter().find(|it| it.0 == code).map_or("", |it| it.1);
        let content = json!({"application/json": {"schema": {"type": "object", "properties":
            {"result": {"type": "array", "maxItems": 0}, "errors": reference("Errors")}}}});
        let status = code.status().as_str().to_owned();
        operation["responses"][status] = json!({"description": about, "content": content});
    }
    if route.gate != Gate::Open {
        operation["security"] = json!([{"token": []}]);
    }
    let body = match route.takes {
        Takes::Nothing | Takes::Data(_) => return operation,
        Takes::One(object) => reference(&sent_name(object)),
        Takes::Many(object) => json!({"type": "array", "items": reference(&sent_name(object))}),
    };
    let content = json!({"application/json": {"schema": body}});
    operation["requestBody"] = json!({"required": true, "content": content});
    operation
}

/// The codes that a route may be refused with.
fn refusals(route: &Route) -> Vec<Code> {
    let mut codes = vec![Code::BadRequest];
    if route.gate != Gate::Open {
        codes.extend([Code::Unauthorized, Code::Forbidden, Code::TooLarge, Code::TooMany]);
    }
    if route.parameters().next().is_some() {
        codes.push(Code::NotFound);
    }
    codes
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(['/', '{', '}', '-', '.']).filter(|word| !word.is_empty());
    words.fold(route.method.name().to_lowercase(), |id, word| id + "_" + word)
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |place: &str, name: &str, schema: Value, about: &str| {
        json!({"in": place, "name": name, "required": place == "path", "schema": schema,
            "description": about})
    };
    let text = || json!({"type": "string"});
    let mut all = Vec::new();
    for name in route.parameters() {
        let about = match route.path {
            "/mqtt/messages/{sel}" => "a topic filter; for GET, with $filter before it too",
            _ => "all, numbers, tests as field=value with * and ?, {expression}",
        };
        let mut selector = parameter("path", name, text(), about);
        selector["example"] = "all".into();
        all.push(selector);
    }
    if let Some(object) = route.gives.filter(|object| !object.is_number()) {
        let names: BTreeSet<&str> = object
            .fields
            .iter()
            .filter(|field| field.shown != Shown::Never)
            .map(|field| field.name)
            .collect();
        let about = format!("fields to answer with, parted by commas: {names:?}");
        all.push(parameter("query", "fields", text(), &about));
        if route.has_parts() {
            let whole = || json!({"type": "integer", "minimum": 0});
            all.push(parameter("query", "limit", whole(), "objects to answer with at most"));
            all.push(parameter("query", "offset", whole(), "objects to leave out before"));
        }
    }
    if let Takes::Data(object) = route.takes {
        let about = format!("JSON with the keys of {}", sent_name(object));
        all.push(parameter("query", "data", text(), &about));
    }
    let others: &[(&str, &str)] = match route.path {
        "/const/values" => &[("names", "dictionaries, parted by commas")],
        "/mqtt/explain" => {
            &[("client_id", "whose session it is"), ("topic", "the name of the message's topic")]
        }
        _ => &[],
    };
    for (name, about) in others {
        let mut other = parameter("query", name, text(), about);
        other["required"] = true.into();
        all.push(other);
    }
    if route.gate != Gate::Open {
        let whole = json!({"type": "integer"});
        all.push(parameter("header", CID, whole, "the account to act as, of the token's branch"));
        all.push(parameter("header", APP, text(), "the program that calls, for logs"));
        all.push(parameter("header", TRACE, text(), "its name for the call, for logs"));
    }
    all
}

fn sent_name(object: &Object) -> String {
    format!("{}Sent", object.name)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schema<'a>(object: &Object, fields: impl Iterator<Item = &'a Field>) -> Value {
    let property = |field: &Field| {
        let mut property = match field.kind {
            Kind::Whole => number(),
            Kind::Bound => json!({"type": "integer", "format": "int64", "minimum": -1}),
            Kind::Text => json!({"type": "string"}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Object => json!({"type": "object"}),
            Kind::List => json!({"type": "array", "items": {}}),
            Kind::Any => json!({}),
        };
        property["description"] = field.about.into();
        (field.name.to_owned(), property)
    };
    let properties: Map<String, Value> = fields.map(property).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": object.is_open})
}

fn number() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 0})
}

fn errors() -> Value {
    let codes = Code::ALL.map(|(code, about)| format!("{}: {about}", code as u8)).join("; ");
    json!({"type": "array", "items": {"type": "object", "required": ["code", "reason"],
    "properties": {
        "code": {"type": "integer", "description": codes},
        "reason": {"type": "string"},
        "id": {"type": "integer", "description":
            "the object it is about; where there is none, the same as index"},
        "index": {"type": "integer", "description": "the place in the array that was sent"},
        "field": {"type": "string", "description": "the field it is about"},
    }}})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    /// Broker specification, 15.3.4.
    #[test]
    fn the_documents_and_the_table_have_the_same_routes() {
        let router = Router::new(Vec::new()).unwrap();
        let routes = || router.routes();
        let modules: BTreeSet<_> = routes().map(Route::module).collect();
        let of_table: BTreeSet<_> =
            routes().map(|it| (it.path.to_owned(), it.method.name().to_lowercase())).collect();
        let mut documented = BTreeSet::new();
        for module in modules {
            let document = describe(&router, module);
            let own = format!("/{module}/api.json");
            assert!(document["paths"].get(&own).is_some(), "{module} has no document of its own");
            for (path, methods) in document["paths"].as_object().unwrap() {
                let methods = methods.as_object().unwrap().keys();
                documented.extend(methods.map(|method| (path.clone(), method.clone())));
            }
        }
        assert_eq!(documented, of_table);
    }

    /// Spec of the modules: R2.10, R2.19.
    #[test]
    fn a_document_says_what_is_answered_by_delete_and_which_lists_have_parts() {
        let router = Router::new(Vec::new()).unwrap();
        let of = |module: &str, path: &str, method: &str| {
            let operation = describe(&router, module)["paths"][path][method].clone();
            let schema = "/responses/200/content/application~1json/schema/properties/result/items";
            let named = |it: &Value| it["name"].as_str().unwrap().to_owned();
            let names = operation["parameters"].as_array().unwrap().iter().map(named);
            (operation.pointer(schema).cloned().unwrap_or_default(), names.collect::<Vec<_>>())
        };
        for (module, path) in [
            ("platform", "/platform/tokens/{sel}"),
            ("mqtt", "/mqtt/sessions/{sel}"),
            ("mqtt", "/mqtt/sessions/{sel}/subscriptions/{sel2}"),
        ] {
            let (item, names) = of(module, path, "delete");
            assert_eq!((item, names.contains(&"fields".to_owned())), (number(), false), "{path}");
            let (item, names) = of(module, path, "get");
            assert!(item["$ref"].is_string());
            assert!(names.contains(&"limit".to_owned()), "{path}");
        }
        for (module, path) in [("mqtt", "/mqtt/messages/{sel}"), ("auth", "/auth/info")] {
            assert!(!of(module, path, "get").1.contains(&"limit".to_owned()), "{path}");
        }
        assert_eq!(of("mqtt", "/mqtt/explain", "get").1[..2], ["client_id", "topic"]);
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_operation_has_a_name_of_its_own() {
        let mut ids = BTreeSet::new();
        let router = Router::new(Vec::new()).unwrap();
        for module in ["mqtt", "platform", "auth", "storage", "const"] {
            let document = describe(&router, module);
            let mut found = Vec::new();
            references(&document, &mut found);
            for reference in found {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{module}: {reference}");
            }
            for methods in document["paths"].as_object().unwrap().values() {
                for operation in methods.as_object().unwrap().values() {
                    let id = operation["operationId"].as_str().unwrap();
                    assert!(ids.insert(id.to_owned()), "{id}");
                }
            }
        }
    }
}
