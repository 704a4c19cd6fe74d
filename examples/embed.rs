//! A broker inside a program: start it, publish and subscribe without a socket, stop it.
//!
//! No runtime is needed: the broker has threads of its own, and a link's futures run on any
//! executor, here one that parks this thread.

use longshore::codec::{QoS, SubscribeOptions};
use longshore::{Broker, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder().listen("mqtt://127.0.0.1:0").start()?;
    for (listen, address) in broker.addresses() {
        println!("MQTT clients may connect to {}://{address}", listen.scheme);
    }

    pollster::block_on(async {
        let link = broker.link("greeter");
        let mut greetings =
            link.subscribe("greetings/+", SubscribeOptions::new(QoS::AtLeastOnce)).await?;

        let message = Message::new("greetings/world", "hello").qos(QoS::AtLeastOnce);
        let outcome = link.publish(message).await?;
        println!("the broker said: {}", outcome.reason);

        if let Some(message) = greetings.recv().await {
            println!("{}: {}", message.topic, String::from_utf8_lossy(&message.payload));
        }
        Ok::<(), longshore::LinkError>(())
    })?;

    broker.shutdown();
    broker.wait()?;
    Ok(())
}
