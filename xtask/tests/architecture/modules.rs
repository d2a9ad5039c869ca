//! The files of a crate, and which of them import which: read from the source text, without a compiler.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use syn::{
    Attribute, Item, ItemMod, UseTree, Visibility,
    visit::{self, Visit},
};

/// A module of a crate.
#[derive(Default)]
struct Module {
    /// The file that it is written in.
    file: PathBuf,
    parent: Option<usize>,
    /// By name, what stands in it.
    names: BTreeMap<String, Name>,
    /// Paths whose every name it has.
    globs: Vec<Vec<String>>,
    /// Paths that its code names, imports that are handed on left out.
    mentions: BTreeSet<Vec<String>>,
}

enum Name {
    Module(usize),
    Here,
    Import(Vec<String>),
}

/// What a path leads to.
#[derive(Clone, Copy)]
enum Target {
    Module(usize),
    Item(usize),
}

/// A crate's modules, without its tests.
pub struct Crate(Vec<Module>);

impl Crate {
    /// Reads the crate whose root is this file.
    pub fn read(root: &Path) -> Self {
        let mut this = Self(Vec::new());
        this.file(root, root.parent().expect("a file lies in a folder"), None);
        this
    }

    /// By file, the files of the crate that its code names something of.
    pub fn imports(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut imports = BTreeMap::<&Path, BTreeSet<&Path>>::new();
        for (at, module) in self.0.iter().enumerate() {
            let of = imports.entry(&module.file).or_default();
            let found = module.mentions.iter().filter_map(|path| self.resolve(at, path, 0));
            of.extend(found.map(|target| match target {
                Target::Module(at) | Target::Item(at) => self.0[at].file.as_path(),
            }));
            of.remove(module.file.as_path());
        }
        imports
    }

    fn file(&mut self, file: &Path, folder: &Path, parent: Option<usize>) -> usize {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.items(&parsed.items, file, folder, parent)
    }

    /// A module of these items; modules below it that have files of their own lie in `folder`.
    fn items(
        &mut self,
        items: &[Item],
        file: &Path,
        folder: &Path,
        parent: Option<usize>,
    ) -> usize {
        let at = self.0.len();
        self.0.push(Module { file: file.to_owned(), parent, ..Module::default() });
        for item in items.iter().filter(|item| !is_test(attributes(item))) {
            match item {
                Item::Mod(module) => {
                    let below = self.module(module, file, folder, at);
                    self.0[at].names.insert(module.ident.to_string(), Name::Module(below));
                }
                Item::Use(import) => {
                    let handed_on = !matches!(import.vis, Visibility::Inherited);
                    self.import(at, &import.tree, &mut Vec::new(), handed_on);
                }
                _ => {
                    if let Some(name) = defined(item) {
                        self.0[at].names.insert(name, Name::Here);
                    }
                    Mentions(&mut self.0[at].mentions).visit_item(item);
                }
            }
        }
        at
    }

    fn module(&mut self, module: &ItemMod, file: &Path, folder: &Path, at: usize) -> usize {
        let name = module.ident.to_string();
        let name = name.trim_start_matches("r#");
        let below = folder.join(name);
        if let Some((_, items)) = &module.content {
            return self.items(items, file, &below, Some(at));
        }
        let alone = folder.join(format!("{name}.rs"));
        let file = if alone.exists() { alone } else { below.join("mod.rs") };
        self.file(&file, &below, Some(at))
    }

    fn import(&mut self, at: usize, tree: &UseTree, prefix: &mut Vec<String>, handed_on: bool) {
        let (name, bound) = match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.import(at, &path.tree, prefix, handed_on);
                prefix.pop();
                return;
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(at, tree, prefix, handed_on));
                return;
            }
            UseTree::Glob(_) => {
                if !handed_on {
                    self.0[at].mentions.insert(prefix.clone());
                }
                self.0[at].globs.push(prefix.clone());
                return;
            }
            UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(rename) => (rename.ident.to_string(), rename.rename.to_string()),
        };
        let (path, bound) = match name.as_str() {
            "self" => (
                prefix.clone(),
                prefix.last().cloned().filter(|_| bound == "self").unwrap_or(bound),
            ),
            _ => ([prefix.as_slice(), &[name]].concat(), bound),
        };
        if !handed_on {
            self.0[at].mentions.insert(path.clone());
        }
        self.0[at].names.insert(bound, Name::Import(path));
    }

    /// What a path that stands in a module leads to; nothing if out of the crate.
    fn resolve(&self, at: usize, path: &[String], depth: usize) -> Option<Target> {
        let mut rest = path.iter().map(String::as_str);
        let mut here = match rest.next()? {
            "crate" | "$crate" => Target::Module(0),
            "self" => Target::Module(at),
            "super" => Target::Module(self.0[at].parent?),
            name => self.name(at, name, depth)?,
        };
        for segment in rest {
            here = match here {
                Target::Module(module) if segment == "super" => {
                    Target::Module(self.0[module].parent?)
                }
                Target::Module(module) if segment == "self" => Target::Module(module),
                Target::Module(module) => self.name(module, segment, depth)?,
                Target::Item(_) => break,
            };
        }
        Some(here)
    }

    fn name(&self, at: usize, name: &str, depth: usize) -> Option<Target> {
        if depth > 16 {
            return None;
        }
        match self.0[at].names.get(name) {
            Some(Name::Module(module)) => Some(Target::Module(*module)),
            Some(Name::Here) => Some(Target::Item(at)),
            Some(Name::Import(path))
                if path.first().is_some_and(|first| first == name) && path.len() == 1 =>
            {
                None
            }
            Some(Name::Import(path)) => self.resolve(at, path, depth + 1),
            None => self.0[at].globs.iter().find_map(|glob| {
                match self.resolve(at, glob, depth + 1)? {
                    Target::Module(module) if module != at => self.name(module, name, depth + 1),
                    _ => None,
                }
            }),
        }
    }
}

/// The paths that code names, those within macros too.
struct Mentions<'a>(&'a mut BTreeSet<Vec<String>>);

impl<'ast> Visit<'ast> for Mentions<'_> {
    /// `pub(crate)` names nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.0.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        // An import within a function: each of its paths.
        fn paths(tree: &UseTree, prefix: &[String], found: &mut BTreeSet<Vec<String>>) {
            let with = |name: String| [prefix, &[name]].concat();
            match tree {
                UseTree::Path(path) => paths(&path.tree, &with(path.ident.to_string()), found),
                UseTree::Group(group) => {
                    group.items.iter().for_each(|tree| paths(tree, prefix, found))
                }
                UseTree::Glob(_) => {
                    found.insert(prefix.to_vec());
                }
                UseTree::Name(name) => {
                    found.insert(with(name.ident.to_string()));
                }
                UseTree::Rename(rename) => {
                    found.insert(with(rename.ident.to_string()));
                }
            }
        }
        paths(&import.tree, &[], self.0);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }
}

impl Mentions<'_> {
    /// The paths in a macro's tokens: names with `::` between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<String>) {
        if !path.is_empty() {
            self.0.insert(std::mem::take(path));
        }
    }
}

/// The name that an item gives to what it defines.
fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether what bears these attributes is there in tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            matches!(list.tokens.to_string().as_str(), "test" | "doctest")
        }
        _ => false,
    })
}

/// Whether a file's code has this word, its tests left out. Text and comments are no code.
pub fn has_word(file: &Path, word: &str) -> bool {
    tokens(file).iter().any(|token| matches!(token, TokenTree::Ident(name) if name == word))
}

/// The texts in a file's code, its tests and its documentation left out.
pub fn texts(file: &Path) -> Vec<String> {
    let text = |token: &TokenTree| match syn::parse2(token.to_token_stream()) {
        Ok(syn::Lit::Str(text)) => Some(text.value()),
        _ => None,
    };
    tokens(file).iter().filter_map(text).collect()
}

/// The tokens of a file's code, its tests left out.
fn tokens(file: &Path) -> Vec<TokenTree> {
    fn flat(tokens: TokenStream) -> Vec<TokenTree> {
        let within = |token| match token {
            TokenTree::Group(group) => flat(group.stream()),
            token => vec![token],
        };
        tokens.into_iter().flat_map(within).collect()
    }
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let code = parsed.items.iter().filter(|item| !is_test(attributes(item)));
    code.flat_map(|item| flat(item.to_token_stream())).collect()
}
