//! Real clients against the real binary: mosquitto's (Debian), paho-mqtt and gmqtt (PyPI), MQTT.js
//! in Node and in Chromium (npm), rumqttc (crates.io), and clients of flespi's REST API.
//!
//! `bash .ci/run install` installs them. A client that is missing is a failure, unless
//! LONGSHORE_NO_CLIENTS=1 says that the tests are to go without.

mod clients {
    // What they run with.
    #[expect(dead_code, reason = "other tests need more of it")]
    mod broker;
    mod certificates;
    mod namespace;
    #[expect(dead_code, reason = "other tests need more of it")]
    mod process;
    mod tools;

    // The clients.
    mod channel;
    mod flespi;
    mod gateway;
    mod mosquitto;
    mod openapi;
    mod receiver;
    mod rumqttc;
    mod scripts;
}
