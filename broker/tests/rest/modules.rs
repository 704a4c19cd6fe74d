//! Objects of a module: made by REST, kept, told of in logs and states.

use std::sync::{Arc, Mutex};

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::Options;
use longshore_broker::module::{
    Change, Detail, EventKind, Head, Item, MODULES_FOLDER, Objects, Paths, Running, Severity,
};
use longshore_broker::rest::{Code, Fault, Field, Kind, Object, Route};
use longshore_broker::{Broker, Context, Module, Storage};
use longshore_storage::{Changes, Tables};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::client::Rig;
use super::mqtt_client::{Ask, Client};

/// A depot with a name and a number of berths.
#[derive(Debug)]
struct Depot {
    head: Head,
    kept: Map<String, Value>,
}

impl Item for Depot {
    const URI: &'static str = "gw/depots";
    const ORIGIN: u64 = 900;
    const OBJECT: &'static Object = &Object {
        name: "Depot",
        fields: &[
            Field::new("id", Kind::Whole, "Its number"),
            Field::new("cid", Kind::Whole, "Its account"),
            Field::new("name", Kind::Text, "What its owner calls it").set(),
            Field::new("berths", Kind::Whole, "Ships that it takes, 1 to 10").set(),
            Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
            Field::new("size", Kind::Text, "small, or large from 5 berths on"),
        ],
        is_open: false,
    };

    fn read(head: Head, kept: Map<String, Value>, _: Option<&Self>) -> Result<Self, Fault> {
        let berths = kept.get("berths").and_then(Value::as_u64);
        if !berths.is_some_and(|berths| (1..=10).contains(&berths)) {
            return Err(Fault::new(Code::Format, "1 to 10").field("berths"));
        }
        Ok(Self { head, kept })
    }

    fn head(&self) -> Head {
        self.head
    }

    fn kept(&self) -> Map<String, Value> {
        self.kept.clone()
    }

    fn shown(&self) -> Map<String, Value> {
        let mut fields = self.kept.clone();
        let size = if self.kept["berths"].as_u64() >= Some(5) { "large" } else { "small" };
        fields.insert("size".to_owned(), size.into());
        fields
    }
}

/// What the module was told.
type Told = Arc<Mutex<Vec<String>>>;

struct Depots {
    context: Context,
    objects: Arc<Objects<Depot>>,
}

impl Depots {
    fn open(context: Context, told: Told) -> Result<Self, longshore_broker::ModuleError> {
        let changed = move |change: &Change<'_, Depot>| {
            let of = |it: Option<&Arc<Depot>>| it.map(|depot| depot.head.id);
            told.lock().unwrap().push(format!("{:?} {:?}", of(change.before), of(change.after)));
        };
        let objects = Arc::new(Objects::open(&context, "depots", changed)?.at_most(5));
        Ok(Self { context, objects })
    }
}

impl Module for Depots {
    fn name(&self) -> &'static str {
        "depots"
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        let paths =
            Paths { all: "/gw/depots", some: "/gw/depots/{sel}", logs: "/gw/depots/{sel}/logs" };
        let mut routes = self.objects.routes(paths);
        routes.push(Route::document("/gw/api.json"));
        routes
    }

    fn events(&self) -> Vec<(&'static str, &'static [EventKind])> {
        static TIDES: [Detail; 1] = [Detail::new(1, Severity::Alert, "too low")];
        static EVENTS: [EventKind; 2] = [
            EventKind::new(900, Severity::Notice, "a ship has come"),
            // Of which the broker knows other values.
            EventKind::new(1000, Severity::Alert, "not said").with("response_code", &TIDES),
        ];
        vec![("depots", &EVENTS)]
    }

    fn topics(&self) -> Vec<(String, &'static str)> {
        self.objects.topics(&[])
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.objects.renew_all();
            self.context.stopped().await;
        })
    }
}

/// A data directory of a broker with depots.
struct Harbour {
    folder: TempDir,
    key: TokenKey,
}

impl Harbour {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() }
    }

    fn start(&self) -> (Rig, Told) {
        let (told, key) = (Told::default(), self.key.clone());
        let (path, heard) = (self.folder.path().to_owned(), Arc::clone(&told));
        let broker = Broker::builder()
            .storage(Storage::at(path.join("journal")))
            .accounts_in(path, key, Options::default())
            .module(move |context| Depots::open(context, Arc::clone(&heard)))
            .listen("http://127.0.0.1:0")
            .listen("mqtt://127.0.0.1:0")
            .start()
            .unwrap();
        (Rig { broker, key: self.key.expose().to_owned() }, told)
    }
}

/// Messages of a client, those of the broker itself included, as `topic=payload`, sorted.
fn hear(rig: &Rig, filter: &str, count: usize) -> Vec<String> {
    let ask = Ask::with(&rig.key, "listener");
    let mut client = Client::connect(&rig.broker, &ask);
    client.hears_broker = true;
    assert_eq!(client.subscribe(filter), 1);
    client.sorted(count)
}

/// Specification of the broker, 7.4.
#[test]
fn what_a_module_says_is_in_the_dictionaries() {
    let (rig, _) = Harbour::new().start();
    let names = rig.ask("GET /const/values?names=toolbox/topics,toolbox/codes", "").result();
    let topics = names[0]["toolbox/topics"]["topics"].as_object().unwrap();
    let of_depots = topics.keys().filter(|topic| topic.contains("/gw/depots/{depot-id}"));
    let fields = ["id", "cid", "name", "berths", "metadata", "size"];
    let mut want: Vec<_> =
        fields.map(|it| format!("flespi/state/gw/depots/{{depot-id}}/{it}")).into();
    want.push("flespi/state/gw/depots/{depot-id}".to_owned());
    want.push("flespi/state/gw/depots/{depot-id}/deleted".to_owned());
    let said = ["created", "updated", "deleted"];
    want.extend(said.map(|it| format!("flespi/log/gw/depots/{{depot-id}}/{it}")));
    want.sort();
    assert_eq!(of_depots.cloned().collect::<Vec<_>>(), want);
    let toolbox = &names[0]["toolbox/codes"];
    assert_eq!(toolbox["entities"]["depots"], json!([900, 1000]));
    let arrived = json!({"code": 900, "description": "a ship has come", "severity": "notice"});
    assert_eq!(toolbox["codes"]["900"], arrived);
    let of_both = &toolbox["codes"]["1000"];
    assert_eq!(of_both["description"], "REST request", "whoever is first explains it");
    assert_eq!(of_both["extra_codes"]["1"]["description"], "too low");
    assert_eq!(of_both["extra_codes"]["404"]["code"], 404);
}

/// Spec of the modules: R2.4, R2.6, R2.13, R2.16, R2.19, R7.3, R8.3.
#[test]
fn objects_of_a_module_are_made_listed_changed_and_removed() {
    let (rig, told) = Harbour::new().start();
    let body = json!([{"name": "north", "berths": 3}, {"name": "south", "berths": 99},
        {"name": "east", "berths": 7, "metadata": {"a": 1, "b": 2}}, {"name": "w", "hull": 1}]);
    let made = rig.ask("POST /gw/depots", body).json();
    let want = json!([{"id": 1, "cid": 1, "name": "north", "berths": 3, "size": "small"},
        {"id": 2, "cid": 1, "name": "east", "berths": 7, "size": "large",
            "metadata": {"a": 1, "b": 2}}]);
    assert_eq!(made["result"], want);
    let faults = made["errors"].as_array().unwrap();
    let about = |at: usize| (faults[at]["index"].as_u64(), faults[at]["field"].as_str());
    assert_eq!((about(0), about(1)), ((Some(1), Some("berths")), (Some(3), Some("hull"))));

    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [1, 2]);
    assert_eq!(rig.ask("GET /gw/depots/name=n*?fields=id", "").result(), [json!({"id": 1})]);
    assert_eq!(rig.ask("GET /gw/depots/%7Bberths%3E3%7D", "").ids(), [2]);
    assert_eq!(rig.ask("GET /gw/depots/7", "").refusal(), (404, 6));

    let put = rig.ask("PUT /gw/depots/2", json!({"berths": 2, "metadata": {"c": 3}, "id": 9}));
    assert_eq!(put.result()[0]["metadata"], json!({"c": 3}));
    let patched = rig.ask("PATCH /gw/depots/all", json!({"metadata": {"d": 4}})).result();
    assert_eq!(patched[1]["metadata"], json!({"c": 3, "d": 4}));
    assert_eq!(patched[1]["size"], "small");
    assert_eq!(rig.ask("DELETE /gw/depots/1", "").removed(), [1]);
    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [2]);
    let steps = [
        "None Some(1)",
        "None Some(2)",
        "Some(2) Some(2)",
        "Some(1) Some(1)",
        "Some(2) Some(2)",
        "Some(1) None",
    ];
    assert_eq!(*told.lock().unwrap(), steps);

    // It is written behind the changes.
    let log = std::iter::repeat_with(|| rig.ask("GET /gw/depots/2/logs", "").result());
    let log = log.take(10_000).find(|log| log.len() == 3).unwrap();
    let of = |name: &str| log.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("event_code"), [json!(1), json!(2), json!(2)]);
    assert_eq!(of("event_origin"), vec![json!("gw/depots/2"); 3]);
    assert_eq!(of("host"), vec![json!("127.0.0.1"); 3]);
    assert_eq!((&log[1]["old"]["berths"], &log[1]["new"]["berths"]), (&json!(7), &json!(2)));
    let states = hear(&rig, "flespi/state/gw/depots/#", 7);
    let want = [
        r#"flespi/state/gw/depots/2/berths=2"#,
        r#"flespi/state/gw/depots/2/cid=1"#,
        r#"flespi/state/gw/depots/2/id=2"#,
        r#"flespi/state/gw/depots/2/metadata={"c":3,"d":4}"#,
        r#"flespi/state/gw/depots/2/name="east""#,
        r#"flespi/state/gw/depots/2/size="small""#,
    ];
    assert_eq!(states[..6], want);
    let paths = rig.ask("GET /gw/api.json", "").json()["paths"].clone();
    assert!(paths["/gw/depots/{sel}"]["patch"].is_object());
}

/// Spec of the modules: R2.24; of the broker: 4.9, 6.8.
#[test]
fn a_token_that_lists_objects_sees_and_changes_those_alone() {
    let (rig, _) = Harbour::new().start();
    let child = rig.ask("POST /platform/subaccounts", json!([{"name": "child"}])).ids()[0];
    let depots = json!([{"name": "a", "berths": 1}, {"name": "b", "berths": 1}]);
    assert_eq!(rig.ask("POST /gw/depots", depots.clone()).ids(), [1, 2]);
    assert_eq!(rig.ask_for(child, "POST /gw/depots", depots).ids(), [3, 4]);
    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [1, 2, 3, 4]);
    assert_eq!(rig.ask_for(child, "GET /gw/depots/all", "").ids(), [3, 4]);
    let token = |ids: Value, methods: Value| {
        let acl = json!([{"uri": "gw/depots", "methods": methods, "ids": ids}]);
        let access = json!({"type": 2, "acl": acl});
        let made = rig.ask("POST /platform/tokens", json!([{"ttl": 60, "access": access}]));
        made.result()[0]["key"].as_str().unwrap().to_owned()
    };
    let all = json!(["GET", "POST", "PUT", "DELETE"]);
    let key = token(json!([2]), all.clone());
    assert_eq!(rig.ask_with(&key, "GET /gw/depots/all", "").ids(), [2]);
    assert_eq!(rig.ask_with(&key, "GET /gw/depots/1", "").refusal(), (403, 5));
    assert_eq!(rig.ask_with(&key, "DELETE /gw/depots/1", "").refusal(), (403, 5));
    assert_eq!(rig.ask_with(&key, "PUT /gw/depots/all", json!({"berths": 9})).ids(), [2]);
    let new = json!([{"name": "c", "berths": 1}]);
    assert_eq!(rig.ask_with(&key, "POST /gw/depots", new.clone()).refusal(), (403, 5));
    assert_eq!(rig.ask_with(&key, "PATCH /gw/depots/2", json!({})).refusal(), (403, 5));
    assert_eq!(rig.ask_with(&key, "GET /gw/depots/2/logs", "").refusal(), (403, 5));
    assert_eq!(rig.ask_with(&token(json!("all"), all), "POST /gw/depots", new).ids(), [5]);
}

/// Spec of the modules: 9.
#[test]
fn an_account_has_no_more_objects_than_it_may() {
    let (rig, _) = Harbour::new().start();
    let child = rig.account(1);
    let depots = |count: usize| json!(vec![json!({"name": "d", "berths": 1}); count]);
    assert_eq!(rig.ask("POST /gw/depots", depots(6)).refusal(), (403, 11));
    assert_eq!(rig.ask("POST /gw/depots", depots(5)).ids(), [1, 2, 3, 4, 5]);
    assert_eq!(rig.ask("POST /gw/depots", depots(1)).refusal(), (403, 11));
    assert_eq!(rig.ask_for(child, "POST /gw/depots", depots(1)).ids(), [6]);
    rig.ask("DELETE /gw/depots/2", "").result();
    assert_eq!(rig.ask("POST /gw/depots", depots(1)).ids(), [7], "there is room again");
}

#[test]
fn objects_outlive_the_process_and_what_was_retained_is_put_right() {
    let harbour = Harbour::new();
    let (rig, _) = harbour.start();
    let child = rig.ask("POST /platform/subaccounts", json!([{"name": "child"}])).ids()[0];
    let depot = |name: &str| json!([{"name": name, "berths": 1}]);
    assert_eq!(rig.ask("POST /gw/depots", depot("kept")).ids(), [1]);
    assert_eq!(rig.ask_for(child, "POST /gw/depots", depot("orphan")).ids(), [2]);
    assert_eq!(rig.ask("POST /gw/depots", depot("gone")).ids(), [3]);
    rig.ask("DELETE /gw/depots/3", "").result();
    rig.ask(&format!("DELETE /platform/subaccounts/{child}"), "").result();
    hear(&rig, "flespi/state/gw/depots/1/#", 6);
    drop(rig);
    let (rig, told) = harbour.start();
    assert_eq!(*told.lock().unwrap(), ["None Some(1)"], "what its account owned is gone");
    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [1]);
    assert_eq!(rig.ask("POST /gw/depots", depot("new")).ids(), [4], "numbers come once");
    assert_eq!(hear(&rig, "flespi/state/gw/depots/#", 12).len(), 12);
    assert_eq!(rig.broker.accounts().unwrap().read().branch(ROOT_ACCOUNT).len(), 1);
}

#[test]
fn a_row_that_is_no_object_is_left_as_it_is_and_keeps_no_other_from_its_work() {
    let harbour = Harbour::new();
    let (rig, _) = harbour.start();
    let depots = [1, 2, 3].map(|berths| json!({"name": "depot", "berths": berths}));
    assert_eq!(rig.ask("POST /gw/depots", json!(depots)).ids(), [1, 2, 3]);
    drop(rig);
    let rows = [&b"no JSON"[..], br#"{"cid":1,"berths":99}"#];
    let put = |rows: &[(u64, Vec<u8>)]| {
        let tables = Tables::open(&harbour.folder.path().join(MODULES_FOLDER)).unwrap();
        let (table, mut changes) = (tables.table("depots").unwrap(), Changes::new());
        let before = rows.iter().map(|(id, _)| table.get(&id.to_be_bytes()).unwrap().unwrap());
        let before = before.collect::<Vec<_>>();
        rows.iter().for_each(|(id, row)| changes.put(&table, &id.to_be_bytes(), row));
        tables.commit(changes).unwrap();
        before
    };
    let before = put(&[(1, rows[0].to_vec()), (2, rows[1].to_vec())]);
    let (rig, told) = harbour.start();
    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [3]);
    assert_eq!(*told.lock().unwrap(), ["None Some(3)"]);
    assert_eq!(rig.ask("POST /gw/depots", json!([depots[0]])).ids(), [4], "numbers come once");
    drop(rig);
    assert_eq!(put(&[(1, before[0].clone()), (2, before[1].clone())]), rows);
    let (rig, _) = harbour.start();
    assert_eq!(rig.ask("GET /gw/depots/all", "").ids(), [1, 2, 3, 4]);
}
