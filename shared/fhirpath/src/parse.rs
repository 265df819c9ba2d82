//! From words to an expression. Precedence as in <https://hl7.org/fhirpath/N1/#operator-precedence>.

use std::iter::Peekable;
use std::vec::IntoIter;

use regex_lite::Regex;

use crate::error::ParseError;
use crate::expression::{Choices, Function, Node, Operator};
use crate::token::{Token, tokens};

/// Deeper than this no expression is nested.
const MAX_DEPTH: usize = 64;

pub(crate) fn parse(text: &str, choices: &Choices) -> Result<Node, ParseError> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), choices, depth: 0 };
    let node = parser.binary(0)?;
    match parser.tokens.next() {
        None => Ok(node),
        Some(token) => Err(unexpected(&token)),
    }
}

fn unexpected(token: &Token) -> ParseError {
    ParseError::Unexpected(format!("{token:?}"))
}

struct Parser<'c> {
    tokens: Peekable<IntoIter<Token>>,
    choices: &'c Choices,
    depth: usize,
}

/// An operator between two expressions.
enum Between {
    Of(Operator),
    Is,
    As,
}

fn between(token: &Token) -> Option<(u8, Between)> {
    let of = |strength: u8, operator: Operator| Some((strength, Between::Of(operator)));
    match token {
        Token::Word(word) => match word.as_str() {
            "implies" => of(1, Operator::Implies),
            "or" => of(2, Operator::Or),
            "xor" => of(2, Operator::Xor),
            "and" => of(3, Operator::And),
            "in" => of(4, Operator::In),
            "contains" => of(4, Operator::Contains),
            "is" => Some((8, Between::Is)),
            "as" => Some((8, Between::As)),
            _ => None,
        },
        Token::Sign(sign) => match *sign {
            "=" => of(5, Operator::Equal),
            "!=" => of(5, Operator::NotEqual),
            "<" => of(6, Operator::Less),
            "<=" => of(6, Operator::LessOrEqual),
            ">" => of(6, Operator::Greater),
            ">=" => of(6, Operator::GreaterOrEqual),
            "|" => of(7, Operator::Union),
            "+" => of(9, Operator::Plus),
            "&" => of(9, Operator::Concat),
            _ => None,
        },
        Token::Quoted(_) | Token::Variable(_) | Token::Special(_) | Token::Text(_) | Token::Number(_) => None,
    }
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, ParseError> {
        self.tokens.next().ok_or(ParseError::Ended)
    }

    fn sign(&mut self, sign: &str) -> Result<(), ParseError> {
        match self.next()? {
            Token::Sign(found) if found == sign => Ok(()),
            token => Err(unexpected(&token)),
        }
    }

    fn takes(&mut self, sign: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Sign(found) if *found == sign)).is_some()
    }

    /// Operators that bind more strongly than `above`.
    fn binary(&mut self, above: u8) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::Deep);
        }
        let mut left = self.path()?;
        while let Some((strength, between)) = self.tokens.peek().and_then(between) {
            if strength <= above {
                break;
            }
            self.next()?;
            left = match between {
                Between::Of(operator) => {
                    Node::Binary(operator, Box::new(left), Box::new(self.binary(strength)?))
                }
                Between::Is => Node::Call(Box::new(left), Function::Is(self.kind()?)),
                Between::As => Node::Call(Box::new(left), Function::OfType(self.kind()?)),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    /// An operand and what follows its points.
    fn path(&mut self) -> Result<Node, ParseError> {
        let mut node = self.operand()?;
        let mut links = 0;
        while self.takes(".") {
            links += 1;
            if links > MAX_DEPTH {
                return Err(ParseError::Deep);
            }
            node = match self.next()? {
                Token::Word(word) if self.takes("(") => self.call(node, &word)?,
                Token::Word(word) | Token::Quoted(word) => {
                    Node::Child(Box::new(node), self.choices.step(&word))
                }
                token => return Err(unexpected(&token)),
            };
        }
        Ok(node)
    }

    fn operand(&mut self) -> Result<Node, ParseError> {
        Ok(match self.next()? {
            Token::Sign("(") => {
                let node = self.binary(0)?;
                self.sign(")")?;
                node
            }
            Token::Text(text) => Node::Text(text.into()),
            Token::Number(number) => Node::Number(number),
            Token::Variable(name) => match name.as_str() {
                "resource" => Node::Resource,
                "context" => Node::Context,
                "ucum" => Node::Text("http://unitsofmeasure.org".into()),
                _ => return Err(ParseError::Unknown(format!("%{name}"))),
            },
            Token::Special(name) if name == "this" => Node::This,
            Token::Special(name) => return Err(ParseError::Unknown(format!("${name}"))),
            Token::Word(word) if self.takes("(") => self.call(Node::This, &word)?,
            Token::Word(word) if word == "true" || word == "false" => Node::Boolean(word == "true"),
            Token::Word(word) if word.starts_with(|first: char| first.is_ascii_uppercase()) => {
                Node::Root(word)
            }
            Token::Word(word) | Token::Quoted(word) => {
                Node::Child(Box::new(Node::This), self.choices.step(&word))
            }
            token @ Token::Sign(_) => return Err(unexpected(&token)),
        })
    }

    /// A function of `base`, after its opening parenthesis.
    fn call(&mut self, base: Node, name: &str) -> Result<Node, ParseError> {
        let function = match name {
            "iif" if matches!(base, Node::This) => return self.iif(),
            "trace" => {
                // It writes to a log of the implementation's, and is what it stands at.
                self.binary(0)?;
                while self.takes(",") {
                    self.binary(0)?;
                }
                self.sign(")")?;
                return Ok(base);
            }
            "exists" => Function::Exists,
            "empty" => Function::Empty,
            "not" => Function::Not,
            "hasValue" => Function::HasValue,
            "count" => Function::Count,
            "first" => Function::First,
            "tail" => Function::Tail,
            "children" => Function::Children,
            "descendants" => Function::Descendants,
            "isDistinct" => Function::IsDistinct,
            "toString" => Function::ToText,
            "toInteger" => Function::ToInteger,
            "all" => Function::All(self.argument()?),
            "where" => Function::Where(self.argument()?),
            "select" => Function::Select(self.argument()?),
            "startsWith" => Function::StartsWith(self.argument()?),
            "contains" => Function::Contains(self.argument()?),
            "intersect" => Function::Intersect(self.argument()?),
            "combine" => Function::Combine(self.argument()?),
            "matches" => Function::Matches(self.whole_pattern()?),
            "replaceMatches" => {
                let pattern = self.pattern(|text| text)?;
                self.sign(",")?;
                Function::ReplaceMatches(pattern, self.text()?)
            }
            "is" => Function::Is(self.kind()?),
            "ofType" => Function::OfType(self.kind()?),
            _ => return Err(ParseError::Unknown(format!("{name}()"))),
        };
        self.sign(")")?;
        Ok(Node::Call(Box::new(base), function))
    }

    fn iif(&mut self) -> Result<Node, ParseError> {
        let condition = self.argument()?;
        self.sign(",")?;
        let then = self.argument()?;
        let otherwise = if self.takes(",") { Some(self.argument()?) } else { None };
        self.sign(")")?;
        Ok(Node::Iif(condition, then, otherwise))
    }

    fn argument(&mut self) -> Result<Box<Node>, ParseError> {
        self.binary(0).map(Box::new)
    }

    fn text(&mut self) -> Result<String, ParseError> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            token => Err(unexpected(&token)),
        }
    }

    /// The text as a whole must meet it.
    fn whole_pattern(&mut self) -> Result<Regex, ParseError> {
        self.pattern(|text| format!("^(?:{text})$"))
    }

    fn pattern(&mut self, around: impl FnOnce(String) -> String) -> Result<Regex, ParseError> {
        let text = self.text()?;
        Regex::new(&around(text.clone())).map_err(|_error| ParseError::Pattern(text))
    }

    /// A type, spelt as it ends the name of a choice's member.
    fn kind(&mut self) -> Result<String, ParseError> {
        match self.next()? {
            Token::Word(word) => {
                let mut chars = word.chars();
                let first = chars.next().map(|first| first.to_ascii_uppercase());
                Ok(first.into_iter().chain(chars).collect())
            }
            token => Err(unexpected(&token)),
        }
    }
}
