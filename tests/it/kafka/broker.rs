//! Apache Kafka as processes: found in the cache, started on free ports in temporary directories, stopped with the tests.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use super::REQUIRED;
use crate::harness::{Reserved, eventually, in_time, skipped};

/// Cluster id, the same for all nodes.
const CLUSTER: &str = "c3BhbnJlbGF5LXRlc3RzMQ";

/// Brokers that form a cluster, each also a controller.
pub(super) struct Brokers {
    nodes: Vec<Node>,
    directory: TempDir,
    jars: PathBuf,
    options: Options,
}

/// Differences from a plain cluster.
#[derive(Clone, Copy, Default)]
pub(super) struct Options {
    /// Clients authenticate with SCRAM, through TLS.
    pub(super) is_secure: bool,
}

struct Node {
    port: u16,
    controller_port: u16,
    /// Keeps both ports, while the broker is away too.
    _reserved: [Reserved; 2],
    process: Mutex<Option<Child>>,
}

/// Name and password of the clients of a secure cluster.
pub(super) const USER: &str = "relay";
pub(super) const PASSWORD: &str = "correct horse";

/// The broker of all tests that do not stop it.
static SHARED: OnceCell<Option<Arc<Brokers>>> = OnceCell::const_new();

/// Returns the broker that tests share, or reports the test as skipped.
pub(super) async fn shared(test: &str) -> Option<Arc<Brokers>> {
    let started = SHARED.get_or_init(|| async {
        let jars = jars().await?;
        Some(Arc::new(Brokers::start(jars, 1, Options::default()).await))
    });
    let brokers = started.await.clone();
    if brokers.is_none() {
        skipped(test, "Kafka", REQUIRED);
    }
    brokers
}

/// Returns brokers of the test's own, or reports the test as skipped.
pub(super) async fn own(test: &str, count: usize, options: Options) -> Option<Brokers> {
    let Some(jars) = jars().await else {
        skipped(test, "Kafka", REQUIRED);
        return None;
    };
    Some(Brokers::start(jars, count, options).await)
}

/// Returns the folder of Kafka's jars, if they and Java are there.
async fn jars() -> Option<PathBuf> {
    let cache = std::env::var_os("SPANRELAY_STACK_CACHE").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache/spanrelay-stack"));
    let jars = cache.or_else(home)?.join("kafka/libs");
    let java =
        Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    (jars.is_dir() && java.is_ok_and(|status| status.success())).then_some(jars)
}

// === impl Brokers ===

impl Brokers {
    async fn start(jars: PathBuf, count: usize, options: Options) -> Self {
        let nodes = (0..count).map(|_| {
            let reserved = [Reserved::on_loopback(), Reserved::on_loopback()];
            let [port, controller_port] = [0, 1].map(|one| reserved[one].address.port());
            Node { port, controller_port, _reserved: reserved, process: Mutex::default() }
        });
        let brokers = Self { nodes: nodes.collect(), directory: TempDir::new().unwrap(), jars, options };
        if options.is_secure {
            brokers.make_certificate();
        }
        for node in 0..count {
            brokers.format(node).await;
        }
        for node in 0..count {
            brokers.launch(node);
        }
        for node in 0..count {
            brokers.listens(node).await;
        }
        brokers
    }

    /// Stops a broker as if its machine had died.
    pub(super) async fn kill(&self, node: usize) {
        let mut process = self.nodes[node].process.lock().unwrap().take().expect("it runs");
        // The shell that holds it ends it when its input ends.
        drop(process.stdin.take());
        in_time("a broker ends", process.wait()).await.unwrap();
    }

    /// Starts a broker that was stopped, with what it had.
    pub(super) async fn restart(&self, node: usize) {
        self.launch(node);
        self.listens(node).await;
    }

    /// Addresses for `queue.kafka.brokers`.
    pub(super) fn addresses(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("\"127.0.0.1:{}\"", node.port));
        addresses.collect::<Vec<_>>().join(", ")
    }

    /// The certificate that clients of a secure cluster trust.
    pub(super) fn certificate(&self) -> PathBuf {
        self.directory.path().join("certificate.pem")
    }

    /// Creates a topic with some settings.
    pub(super) async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replicas = i32::try_from(self.nodes.len().min(3)).unwrap();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        topic.config = settings.to_vec();
        eventually("the topic is created", async || {
            let created =
                self.administrator().create_topics([&topic], &AdminOptions::new()).await.ok()?.pop()?;
            created.ok()
        })
        .await;
    }

    /// Changes settings of a topic; the others become the default.
    pub(super) async fn configure_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        settings.iter().for_each(|(key, value)| {
            change.entries.insert(key, value);
        });
        let changed = self.administrator().alter_configs([&change], &AdminOptions::new()).await.unwrap();
        changed.into_iter().for_each(|changed| assert!(changed.is_ok(), "{changed:?}"));
    }

    /// First and last offset of each partition of a topic.
    pub(super) fn offsets(&self, topic: &str, partitions: i32) -> Vec<(i64, i64)> {
        let consumer = self.consumer("nobody");
        let of = |partition| consumer.fetch_watermarks(topic, partition, std::time::Duration::from_secs(10));
        (0..partitions).map(|partition| of(partition).unwrap()).collect()
    }

    /// A consumer of the test's own.
    pub(super) fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        config.create().unwrap()
    }

    fn administrator(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.addresses().replace(['"', ' '], ""));
        if self.options.is_secure {
            config
                .set("security.protocol", "sasl_ssl")
                .set("ssl.ca.location", self.certificate().to_string_lossy())
                .set("sasl.mechanism", "SCRAM-SHA-512")
                .set("sasl.username", USER)
                .set("sasl.password", PASSWORD);
        }
        config
    }

    fn make_certificate(&self) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters =
            rcgen::CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        std::fs::write(self.certificate(), &certificate).unwrap();
        // Kafka reads PEM, as one file of both.
        let both = format!("{}{certificate}", key.serialize_pem());
        std::fs::write(self.directory.path().join("keystore.pem"), both).unwrap();
    }

    fn properties(&self, node: usize) -> String {
        let Node { port, controller_port, .. } = &self.nodes[node];
        let path = self.directory.path().display();
        let id = node + 1;
        let voters = self
            .nodes
            .iter()
            .enumerate()
            .map(|(id, node)| format!("{}@127.0.0.1:{}", id + 1, node.controller_port));
        let voters = voters.collect::<Vec<_>>().join(",");
        let replicas = self.nodes.len().min(3);
        let in_sync = if replicas == 3 { 2 } else { 1 };
        let protocol = if self.options.is_secure { "SASL_SSL" } else { "PLAINTEXT" };
        let mut text = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
             listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=CLIENTS://127.0.0.1:{port}\n\
             listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=CLIENTS\n\
             log.dirs={path}/node-{id}\ngroup.initial.rebalance.delay.ms=0\n\
             offsets.topic.replication.factor={replicas}\noffsets.topic.num.partitions=3\n\
             transaction.state.log.replication.factor={replicas}\ntransaction.state.log.min.isr={in_sync}\n\
             share.coordinator.state.topic.replication.factor={replicas}\nshare.coordinator.state.topic.min.isr={in_sync}\n\
             min.insync.replicas={in_sync}\nlog.retention.check.interval.ms=500\nlog.segment.delete.delay.ms=100\n\
             group.min.session.timeout.ms=1000\n\
             group.consumer.min.session.timeout.ms=1000\ngroup.consumer.session.timeout.ms=6000\n\
             group.consumer.min.heartbeat.interval.ms=500\ngroup.consumer.heartbeat.interval.ms=1000\nreplica.lag.time.max.ms=3000\n\
             broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n"
        );
        if self.options.is_secure {
            write!(
                text,
                "sasl.enabled.mechanisms=SCRAM-SHA-512\nsasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n\
                 ssl.keystore.type=PEM\nssl.keystore.location={path}/keystore.pem\n\
                 ssl.truststore.type=PEM\nssl.truststore.location={path}/certificate.pem\n\
                 listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \
                 required username=\"{USER}\" password=\"{PASSWORD}\";\n"
            )
            .unwrap();
        }
        text
    }

    fn properties_file(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("node-{}.properties", node + 1))
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    async fn format(&self, node: usize) {
        let file = self.properties_file(node);
        std::fs::write(&file, self.properties(node)).unwrap();
        let mut command = Command::new("java");
        command
            .args(["-cp", &self.class_path(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"])
            .arg(file);
        if self.options.is_secure {
            command.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]"));
        }
        let output = in_time("a broker's directory is formatted", command.output()).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a node in a shell that ends it with this process, however this process ends.
    fn launch(&self, node: usize) {
        let script = "java -Xmx320m -XX:TieredStopAtLevel=1 -cp \"$1\" kafka.Kafka \"$2\" >\"$2.log\" 2>&1 </dev/null & \
                      read -r _; kill -9 $!; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &self.class_path()]).arg(self.properties_file(node));
        let process =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        *self.nodes[node].process.lock().unwrap() = Some(process);
    }

    /// Waits until a node serves clients.
    async fn listens(&self, node: usize) {
        let mut config = self.client();
        config.set("bootstrap.servers", format!("127.0.0.1:{}", self.nodes[node].port));
        eventually("a broker serves clients", async || {
            let config = config.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let consumer: BaseConsumer = config.create().unwrap();
                let metadata = consumer.fetch_metadata(None, std::time::Duration::from_millis(500)).ok()?;
                Some(metadata.brokers().len())
            });
            let known = looked.await.unwrap()?;
            (known > 0).then_some(())
        })
        .await;
    }
}
