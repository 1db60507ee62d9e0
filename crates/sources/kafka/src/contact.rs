//! The first words with a cluster: whether it answers, who it is, and which of the topics are there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::Result;
use longshore_core::error::{Error, Kind, Retry};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Handle;

use crate::assign::changed_id;
use crate::config::KafkaConfig;
use crate::error::KAFKA_DENIED;
use crate::native::{Client, Described, Queue, What, cluster_id, set_token};
use crate::oauth::Tokens;
use crate::survey::describe_topics;
use crate::trouble::{Verdict, judge, no_topic};

/// How often it is looked what the client has to tell while something is asked.
const TICK: Duration = Duration::from_millis(50);

/// A cluster that has answered.
#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) cluster: String,
    pub(crate) brokers: usize,
    /// The topics that are there, of those that are wanted; with a pattern, all of the cluster.
    pub(crate) topics: BTreeMap<String, Described>,
    /// Those that are wanted and not there, each with the broker's words.
    pub(crate) missing: Vec<(String, String)>,
    /// The ids by which librdkafka knows topics, as far as its log has said.
    pub(crate) ids: HashMap<String, String>,
}

/// Makes contact; blocks for up to about twice `patience`. `None` if no broker answers, with what the client had to tell about it.
///
/// Errors: what waiting does not mend: who asks is refused, or a topic may not be seen.
pub(crate) fn contact(
    queue: &Queue,
    config: &KafkaConfig,
    tokens: Option<&Tokens>,
    runtime: &Handle,
    patience: Duration,
) -> Result<std::result::Result<Contact, String>> {
    let (answer, told) = attended(queue, tokens, runtime, |client| ask(client, config, patience));
    match (answer, told.ends) {
        (_, Some(error)) => Err(error),
        (Ok(contact), None) => Ok(Ok(Contact { ids: told.ids, ..contact? })),
        (Err(why), None) => match told.denied {
            Some(error) => Err(error),
            None => Ok(Err(told.words.unwrap_or(why))),
        },
    }
}

/// What a client told while something was asked.
#[derive(Default)]
struct Told {
    ends: Option<Error>,
    denied: Option<Error>,
    words: Option<String>,
    ids: HashMap<String, String>,
}

/// Asks on a thread of its own, while this one looks after the client: without that nobody would give it a token or hear of its errors.
fn attended<T: Send>(
    queue: &Queue,
    tokens: Option<&Tokens>,
    runtime: &Handle,
    ask: impl FnOnce(&Arc<Client>) -> T + Send,
) -> (T, Told) {
    let mut told = Told::default();
    let client = queue.client();
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(client));
        while !asking.is_finished() {
            attend(queue, tokens, runtime, &mut told);
        }
        asking.join()
    });
    // What it told a moment ago may be why there is no answer.
    attend(queue, tokens, runtime, &mut told);
    match answer {
        Ok(answer) => (answer, told),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn attend(queue: &Queue, tokens: Option<&Tokens>, runtime: &Handle, told: &mut Told) {
    let Some(mut event) = queue.poll(TICK) else { return };
    match event.what() {
        What::Token => {
            if let Some(tokens) = tokens {
                give(queue.client(), runtime.block_on(tokens.fetch()));
            }
        }
        What::Trouble(trouble) => match judge(&trouble) {
            Verdict::Ends(error) => told.ends = told.ends.take().or(Some(error)),
            Verdict::Denied(error) => told.denied = told.denied.take().or(Some(error)),
            Verdict::Away => {}
            _ => told.words = Some(trouble.text),
        },
        What::Log { level, text } => {
            told.ids.extend(changed_id(&text).map(|(topic, id)| (topic.to_owned(), id)));
            tracing::debug!(level, "{text}");
        }
        _ => {}
    }
}

/// Gives the client a token, or tells it that there is none.
pub(crate) fn give(client: &Client, token: std::result::Result<crate::oauth::Token, String>) {
    use secrecy::ExposeSecret;
    let given = match &token {
        Ok(token) => set_token(client, Ok((token.text.expose_secret(), token.until, &token.principal))),
        Err(why) => set_token(client, Err(why)),
    };
    if let Err(why) = given {
        // Its words go where those of a refusal go.
        let _ = set_token(client, Err(&format!("{}: {why}", crate::oauth::NO_TOKEN)));
    }
}

/// The questions. The outer error is that nobody answered.
fn ask(client: &Arc<Client>, config: &KafkaConfig, patience: Duration) -> std::result::Result<Result<Contact>, String> {
    let metadata = match (&config.pattern, config.topics.first()) {
        (None, Some(topic)) => client.fetch_metadata(Some(topic), patience),
        _ => client.fetch_metadata(None, patience),
    };
    let metadata = metadata.map_err(|e| e.to_string())?;
    // Without it every partition would have another name, and be read once more.
    let cluster = cluster_id(client, patience).ok_or("the cluster does not tell its id")?;
    let brokers = metadata.brokers().len();
    let mut contact = Contact { cluster, brokers, topics: BTreeMap::new(), missing: Vec::new(), ids: HashMap::new() };
    if config.pattern.is_some() {
        let letters = config.dead_letter_topic.as_deref();
        for topic in metadata.topics().iter().filter(|topic| Some(topic.name()) != letters) {
            let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
            contact.topics.insert(topic.name().to_owned(), Described { id: None, partitions });
        }
        return Ok(Ok(contact));
    }
    Ok(named(client, config, patience, &mut contact)?.map(|()| contact))
}

fn named(
    client: &Arc<Client>,
    config: &KafkaConfig,
    patience: Duration,
    contact: &mut Contact,
) -> std::result::Result<Result<()>, String> {
    let answers = describe_topics(client, &config.topics, patience)?;
    for (name, answer) in answers {
        match answer {
            Ok(described) => {
                contact.topics.insert(name, described);
            }
            Err((RDKafkaErrorCode::UnknownTopicOrPartition, words)) => contact.missing.push((name, words)),
            Err((RDKafkaErrorCode::TopicAuthorizationFailed, words)) => {
                let error = Error::new(Kind::Source, KAFKA_DENIED, format!("the topic `{name}` may not be read: {words}"));
                return Ok(Err(error.with_retry(Retry::AfterFix).hint("grant READ and DESCRIBE on the topic")));
            }
            Err((_, words)) => return Err(format!("{name}: {words}")),
        }
    }
    match contact.missing.first() {
        Some((_, words)) if contact.topics.is_empty() => Ok(Err(no_topic(&config.topics, words))),
        _ => Ok(Ok(())),
    }
}
