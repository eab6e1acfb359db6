//! RMQTT with its Kafka plug-in, from the crates that its server program is made of.
//!
//!     rmqtt PORT FOLDER    FOLDER has rmqtt-bridge-egress-kafka.toml
//!
//! The server program itself carries thirty plug-ins and their dependencies; this one registers
//! the only one that is measured.  The allocator is the same.

use rmqtt::context::ServerContext;
use rmqtt::net::Builder;
use rmqtt::server::MqttServer;
use rmqtt::Result;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(folder)) = (args.next(), args.next()) else {
        eprintln!("rmqtt PORT FOLDER");
        std::process::exit(64);
    };
    simple_logger::init_with_level(log::Level::Warn)?;
    // "Busy" is a guess from the load average, which refuses connections; the load of this
    // machine is the measurement.
    let context = ServerContext::new()
        .plugins_config_dir(folder)
        .busy_check_enable(false)
        .build()
        .await;
    rmqtt_bridge_egress_kafka::register(&context, true, false).await?;
    let listener = Builder::new()
        .name("tcp")
        .laddr(format!("127.0.0.1:{port}").parse()?)
        .allow_anonymous(true)
        .bind()?
        .tcp()?;
    MqttServer::new(context).listener(listener).build().run().await?;
    Ok(())
}
