//! One node with a publisher and a subscriber that hold a sample; ends when its input closes.
//!
//! Usage: kobj-e2e-iceoryx2 ROOT-FOLDER PREFIX
#![forbid(unsafe_code)]

use iceoryx2::config::Config;
use iceoryx2::prelude::*;

type Error = Box<dyn core::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(prefix)) = (arguments.next(), arguments.next()) else {
        return Err("usage: kobj-e2e-iceoryx2 ROOT-FOLDER PREFIX".into());
    };
    let mut config = Config::default();
    config.global.set_root_path(&Path::new(root.as_bytes())?);
    config.global.prefix = FileName::new(prefix.as_bytes())?;
    let node = NodeBuilder::new().config(&config).create::<ipc::Service>()?;
    let name = prefix.as_str().try_into()?;
    let service = node.service_builder(&name).publish_subscribe::<u64>().open_or_create()?;
    let publisher = service.publisher_builder().create()?;
    let subscriber = service.subscriber_builder().create()?;
    publisher.send_copy(42)?;
    let sample = subscriber.receive()?.ok_or("no sample came")?;
    println!("ready answer={}", *sample);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
