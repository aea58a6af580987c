"""What transformers' text models start from: defaults of configurations, fresh weights that are not random."""

import transformers


def defaults(config):
    """All settings of a configuration class, and its attribute_map."""
    kind = getattr(transformers, config)
    values = kind().to_dict()
    return {"settings": {key: value for key, value in values.items() if key != "model_type"}, "map": kind.attribute_map}


def fresh_positions(config):
    """The position table of a fresh DistilBertModel."""
    model = transformers.DistilBertModel(transformers.DistilBertConfig(**config))
    return model.embeddings.position_embeddings.weight.tolist()
