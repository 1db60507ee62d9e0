//! Descriptors from `.proto` files and from descriptor sets.

use std::path::Path;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// What a schema without a name is called among those that it imports.
const MAIN: &str = "longshore-schema.proto";

/// Files that schema registries have without being told: options, and a decimal.
const OF_REGISTRIES: [(&str, &str); 2] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3";
           package confluent;
           import "google/protobuf/descriptor.proto";
           message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
           extend google.protobuf.FileOptions { Meta file_meta = 1088; }
           extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
           extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
           extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
           extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3";
           package confluent.type;
           message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"#,
    ),
];

/// Files whose texts are at hand.
struct Texts(Vec<(String, String)>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

fn with_standard_files(mut resolver: ChainFileResolver) -> ChainFileResolver {
    resolver.add(GoogleFileResolver::new());
    resolver.add(Texts(OF_REGISTRIES.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()));
    resolver
}

/// Compiles a text with the texts of what it imports; returns the name that its file has in the pool, too.
pub(super) fn compile(text: &str, references: &[(String, String)]) -> Result<(DescriptorPool, String), String> {
    let mut texts = vec![(MAIN.to_owned(), text.to_owned())];
    texts.extend(references.iter().cloned());
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(texts));
    let mut compiler = Compiler::with_file_resolver(with_standard_files(resolver));
    compiler.open_file(MAIN).map_err(|e| in_words(&e))?;
    Ok((compiler.descriptor_pool(), MAIN.to_owned()))
}

/// Reads a `.proto` file or a descriptor set; returns the types that it declares itself at its top, too.
pub(super) fn read(path: &Path, include: Option<&Path>) -> Result<(DescriptorPool, Vec<MessageDescriptor>), String> {
    if path.extension().is_none_or(|extension| extension != "proto") {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let pool =
            DescriptorPool::decode(bytes.as_slice()).map_err(|e| format!("it is no `.proto` file, nor a descriptor set: {e}"))?;
        let messages = pool.files().flat_map(|file| file.messages().collect::<Vec<_>>()).collect();
        return Ok((pool, messages));
    }
    let folder = include.or_else(|| path.parent()).filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(folder.to_owned()));
    let mut compiler = Compiler::with_file_resolver(with_standard_files(resolver));
    compiler.open_file(path).map_err(|e| in_words(&e))?;
    let pool = compiler.descriptor_pool();
    let own = compiler.files().find(|file| !file.is_import()).map(|file| file.name().to_owned());
    let file = own.and_then(|name| pool.get_file_by_name(&name));
    Ok((pool, file.map(|file| file.messages().collect()).unwrap_or_default()))
}

/// An error with the places that it has.
fn in_words(error: &protox::Error) -> String {
    // Its long form has the place on its first line and a picture behind it.
    let long = format!("{error:?}");
    let first = long.lines().next().unwrap_or_default().trim();
    if first.is_empty() { error.to_string() } else { first.replace(MAIN, "the schema") }
}
