//! A module of one's own: meters, made by REST, that add up what comes to `meters/{id}/add`.
//!
//! `cargo run --example module`, and then, with the token that it prints:
//!
//! ```text
//! curl -H "Authorization: FlespiToken $token" localhost:8080/gw/meters --json '[{"unit": "kWh"}]'
//! mosquitto_sub -u $token -v -t 'flespi/message/gw/meters/+' &
//! mosquitto_pub -u $token -q 1 -t meters/1/add -m 2.5
//! ```
//!
//! It answers REST with rights, selectors, logs and states like all else there, says to tools what
//! its topics are, is told of what came while it was not running, and is done with a message once
//! its answer is out.

use std::sync::{Arc, Mutex, PoisonError};

use longshore::accounts::Options;
use longshore::acl::{Method, TokenKey, TopicGrant};
use longshore::codec::{QoS, SubscribeOptions};
use longshore::module::{Head, Item, Objects, Paths, Running};
use longshore::rest::{Fault, Field, Kind, Object, Route};
use longshore::{Broker, Context, Message, Module, ModuleError, Storage};
use serde_json::{Map, Value, json};

/// A meter. What it has added up lasts as long as the process: a real one would keep it in a table.
struct Meter {
    head: Head,
    kept: Map<String, Value>,
    sum: Mutex<f64>,
}

impl Item for Meter {
    const URI: &'static str = "gw/meters";
    const ORIGIN: u64 = 1_000;
    const OBJECT: &'static Object = &Object {
        name: "Meter",
        fields: &[
            Field::new("id", Kind::Whole, "Its number"),
            Field::new("cid", Kind::Whole, "The account that owns it"),
            Field::new("unit", Kind::Text, "What it counts").set(),
            Field::new("sum", Kind::Any, "What it has added up"),
        ],
        is_open: false,
    };

    fn read(head: Head, kept: Map<String, Value>, before: Option<&Self>) -> Result<Self, Fault> {
        let sum = Mutex::new(before.map_or(0.0, Self::sum));
        Ok(Self { head, kept, sum })
    }

    fn head(&self) -> Head {
        self.head
    }

    fn kept(&self) -> Map<String, Value> {
        self.kept.clone()
    }

    fn shown(&self) -> Map<String, Value> {
        let mut fields = self.kept.clone();
        fields.insert("sum".to_owned(), self.sum().into());
        fields
    }
}

impl Meter {
    fn sum(&self) -> f64 {
        *self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, more: f64) -> f64 {
        let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
        *sum += more;
        *sum
    }
}

struct Meters {
    context: Context,
    objects: Arc<Objects<Meter>>,
}

impl Meters {
    fn open(context: Context) -> Result<Self, ModuleError> {
        let objects = Arc::new(Objects::open(&context, "meters", |_| {})?);
        Ok(Self { context, objects })
    }

    /// What is said of a message: the sum of the meter of this number, if the account has it.
    fn answer(&self, message: &Message) -> Option<Message> {
        let id = message.topic.split('/').nth(1)?.parse().ok()?;
        let meter = self.objects.get(id).filter(|it| it.head().account == message.account())?;
        let more = std::str::from_utf8(&message.payload).ok()?.trim().parse().ok()?;
        let payload = json!({"sum": meter.add(more), "unit": meter.kept["unit"]}).to_string();
        let told = Message::new(format!("flespi/message/gw/meters/{id}"), payload);
        Some(told.qos(QoS::AtLeastOnce).of_account(message.account()))
    }
}

impl Module for Meters {
    fn name(&self) -> &'static str {
        "meters"
    }

    fn grants(&self) -> Vec<TopicGrant> {
        vec![TopicGrant {
            filter: "flespi/message/gw/meters/{id}".to_owned(),
            uri: Meter::URI.to_owned(),
            submodule: Some("messages".to_owned()),
            method: Method::Get,
        }]
    }

    fn topics(&self) -> Vec<(String, &'static str)> {
        self.objects.topics(&[("flespi/message/gw/meters/{meter-id}", "what a meter has added up")])
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        let paths =
            Paths { all: "/gw/meters", some: "/gw/meters/{sel}", logs: "/gw/meters/{sel}/logs" };
        let mut routes = self.objects.routes(paths);
        routes.push(Route::document("/gw/api.json"));
        routes
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.objects.renew_all();
            let link = self.context.link("meters");
            let mut inbox = link.inbox("added");
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            if let Err(error) = inbox.subscribe("meters/+/add", options).await {
                return eprintln!("no meter hears anything: {error}");
            }
            let work = async {
                while let Some(batch) = inbox.recv(1_000).await {
                    let answers = batch.messages.iter().filter_map(|it| self.answer(it));
                    if link.publish_all(answers).await.is_err() {
                        break;
                    }
                    inbox.done(&batch);
                }
            };
            tokio::select! {
                () = self.context.stopped() => {}
                () = work => {}
            }
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, token) = (std::path::PathBuf::from("meters-data"), TokenKey::generate()?);
    println!("token={}", token.expose());
    let broker = Broker::builder()
        .storage(Storage::at(folder.join("journal")))
        .accounts_in(folder, token, Options::default())
        .module(Meters::open)
        .listen("mqtt://127.0.0.1:1883")
        .listen("http://127.0.0.1:8080")
        .start()?;
    broker.wait()?;
    Ok(())
}
