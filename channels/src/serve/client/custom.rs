//! The connection to another broker.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, Publish, QoS, Transport};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::sync::mpsc;

use super::{Open, TOGETHER, client_id, take};
use crate::authority::trusted;
use crate::protocol::mqtt::{Publications, Source};

/// Seconds after which either side that hears nothing asks whether the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Publications that the broker sends before the first of them is acknowledged.
const IN_FLIGHT: usize = 1_024;
/// Bytes of the largest publication: a batch of messages has 10 MB at most.
const PACKET_BYTES_MAX: usize = 11 << 20;

/// Takes what is published there; ends with the reason why that is over.
pub(super) async fn serve(open: &Open, publications: &Publications, source: &Source) -> String {
    let (client, events) = match connect(open, source) {
        Ok(connection) => connection,
        Err(text) => return text,
    };
    let (to, mut from) = mpsc::channel(IN_FLIGHT);
    let taking = async {
        let mut said: Vec<Publish> = Vec::new();
        while from.recv_many(&mut said, TOGETHER).await > 0 {
            let pairs = said.iter().map(|it| (it.topic.as_str(), &it.payload[..]));
            take(open, publications, "broker", pairs).await;
            for publication in said.drain(..) {
                if let Err(error) = client.ack(&publication).await {
                    return error.to_string();
                }
            }
        }
        "the connection has ended".to_owned()
    };
    tokio::select! {
        text = listen(&client, events, &publications.topics, to) => text,
        text = taking => text,
    }
}

fn connect(open: &Open, source: &Source) -> Result<(AsyncClient, EventLoop), String> {
    let Source::Custom { uri, ssl, ca, client_id: id, username, password } = source else {
        return Err("it is this broker".to_owned());
    };
    let (host, port) = uri.rsplit_once(':').ok_or("there is no port")?;
    let host = host.trim_matches(['[', ']']);
    let port: u16 = port.parse().map_err(|_| "there is no port")?;
    let mut options =
        MqttOptions::new(id.clone().unwrap_or_else(|| client_id(open)), host.to_owned(), port);
    options.set_keep_alive(KEEP_ALIVE);
    // What is not acknowledged comes again, also after the hub has been away.
    options.set_clean_session(false);
    options.set_manual_acks(true);
    options.set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    if let Some(username) = username {
        options.set_credentials(username.clone(), password.clone().unwrap_or_default());
    }
    if *ssl {
        options.set_transport(Transport::tls_with_config(tls(ca.as_deref())?.into()));
    }
    // Room for an acknowledgement of each, so that whoever sends one never waits for the loop.
    Ok(AsyncClient::new(options, 2 * IN_FLIGHT))
}

/// TLS that believes these authorities, or those that the system does.
fn tls(ca: Option<&str>) -> Result<ClientConfig, String> {
    let roots = trusted(ca).map_err(|it| it.to_string())?;
    if roots.is_empty() {
        let text = "the system has no certificates to check the broker with; the channel may have \
                    a `ca`";
        return Err(text.to_owned());
    }
    // The one of the process is for the program to choose that the hub is a part of.
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|it| it.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Passes on what comes.
async fn listen(
    client: &AsyncClient,
    mut events: EventLoop,
    topics: &[String],
    to: mpsc::Sender<Publish>,
) -> String {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                for topic in topics {
                    if let Err(error) = client.try_subscribe(topic, QoS::AtLeastOnce) {
                        return format!("{topic}: {error}");
                    }
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publication))) => {
                if to.send(publication).await.is_err() {
                    return "the channel takes nothing any more".to_owned();
                }
            }
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}
