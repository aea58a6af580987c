"""The list of what there is: a row per architecture, a row per pipeline task."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Architecture:
    """A model_type: the file it lives in, its classes, and what prepares its inputs."""

    file: str  # in keras_models/models
    config: str
    classes: dict[str, str]  # task -> class; "base" is the bare model
    tokenizer: str | None = None
    image_processor: str | None = None
    feature_extractor: str | None = None
    processor: str | None = None  # which unites two of them
    variants: dict[str, str] = field(default_factory=dict)  # class -> task: for checkpoints whose config.json names it

    @property
    def class_names(self) -> list[str]:
        """The names of all classes, each once."""
        return list(dict.fromkeys([*self.classes.values(), *self.variants]))


@dataclass(frozen=True)
class Task:
    """A pipeline task: its class, the Auto classes that load its models, and the one it loads when none is named."""

    file: str  # in keras_models/pipelines
    pipeline: str
    auto: str  # one or several, of which the first that knows the architecture loads the model
    default: str | None  # a hub id, or "preset:NAME" for one of keras_models/presets
    revision: str | None = None  # of the default on the hub

    @property
    def autos(self) -> list[str]:
        """The names of the Auto classes."""
        return self.auto.split()


_HEADS = {  # task -> how the reference ends the class's name
    "base": "Model",
    "pretraining": "ForPreTraining",
    "masked-lm": "ForMaskedLM",
    "causal-lm": "ForCausalLM",
    "next-sentence-prediction": "ForNextSentencePrediction",
    "sequence-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
    "seq2seq-lm": "ForConditionalGeneration",
    "image-classification": "ForImageClassification",
    "masked-image-modeling": "ForMaskedImageModeling",
    "object-detection": "ForObjectDetection",
    "semantic-segmentation": "ForSemanticSegmentation",
    "backbone": "Backbone",
    "zero-shot-image-classification": "Model",
    "speech-seq2seq": "ForConditionalGeneration",
    "ctc": "ForCTC",
    "audio-classification": "ForAudioClassification",
    "audio-frame-classification": "ForAudioFrameClassification",
    "audio-xvector": "ForXVector",
}


def _row(
    file: str,
    name: str,
    tasks: str,
    tokenizer: str | None = None,
    image_processor: str | None = None,
    feature_extractor: str | None = None,
    processor: str | None = None,
    variants: dict[str, str] | None = None,
    **others: str,
) -> Architecture:
    """A row whose classes are named as usual, `others` and `variants` apart."""
    classes = {task: name + _HEADS[task] for task in tasks.split()}
    classes |= {task.replace("_", "-"): kind for task, kind in others.items()}
    preprocessors = (tokenizer, image_processor, feature_extractor, processor)
    return Architecture(file, f"{name}Config", classes, *preprocessors, variants or {})


_CAUSAL_HEADS = "sequence-classification token-classification question-answering"
_TEXT_HEADS = "sequence-classification token-classification question-answering multiple-choice"

ARCHITECTURES: dict[str, Architecture] = {
    "audio-spectrogram-transformer": _row(
        "audio_spectrogram_transformer", "AST", "base audio-classification", feature_extractor="ASTFeatureExtractor"
    ),
    "bart": _row(
        "bart", "Bart", "base causal-lm sequence-classification question-answering seq2seq-lm", "BartTokenizer",
        masked_lm="BartForConditionalGeneration", pretraining="BartForConditionalGeneration",
    ),
    "bert": _row(
        "bert", "Bert", f"base pretraining masked-lm next-sentence-prediction {_TEXT_HEADS}", "BertTokenizer",
        causal_lm="BertLMHeadModel", text_encoding="BertModel",
    ),
    "clip": _row(
        "clip", "CLIP", "base image-classification zero-shot-image-classification", "CLIPTokenizer",
        "CLIPImageProcessor", processor="CLIPProcessor",
    ),
    "clip_text_model": _row(
        "clip", "CLIPText", "base", "CLIPTokenizer", text_encoding="CLIPTextModel",
        projection="CLIPTextModelWithProjection",
    ),
    "clip_vision_model": _row(
        "clip", "CLIPVision", "base", image_processor="CLIPImageProcessor", projection="CLIPVisionModelWithProjection"
    ),
    "deit": _row(
        "deit", "DeiT", "base image-classification masked-image-modeling", image_processor="DeiTImageProcessor",
        variants={"DeiTForImageClassificationWithTeacher": "image-classification"},
    ),
    "detr": _row(
        "detr", "Detr", "base object-detection", image_processor="DetrImageProcessor",
        image_segmentation="DetrForSegmentation",
    ),
    "dinov2": _row(
        "dinov2", "Dinov2", "base image-classification backbone", image_processor="BitImageProcessor"
    ),
    "distilbert": _row(
        "distilbert", "DistilBert", f"base masked-lm {_TEXT_HEADS}", "DistilBertTokenizer",
        pretraining="DistilBertForMaskedLM", text_encoding="DistilBertModel",
    ),
    "electra": _row(
        "electra", "Electra", f"base pretraining masked-lm causal-lm {_TEXT_HEADS}", "ElectraTokenizer",
        text_encoding="ElectraModel",
    ),
    "gpt2": _row(
        "gpt2", "GPT2", "base sequence-classification token-classification question-answering", "GPT2Tokenizer",
        causal_lm="GPT2LMHeadModel", pretraining="GPT2LMHeadModel", double_heads="GPT2DoubleHeadsModel",
    ),
    "llama": _row("llama", "Llama", f"base causal-lm {_CAUSAL_HEADS}", "LlamaTokenizer"),
    "mistral": _row("mistral", "Mistral", f"base causal-lm {_CAUSAL_HEADS}", "LlamaTokenizer"),
    "resnet": _row(
        "resnet", "ResNet", "base image-classification backbone", image_processor="ConvNextImageProcessor"
    ),
    "roberta": _row(
        "roberta", "Roberta", f"base masked-lm causal-lm {_TEXT_HEADS}", "RobertaTokenizer",
        pretraining="RobertaForMaskedLM", text_encoding="RobertaModel",
    ),
    "segformer": _row(
        "segformer", "Segformer", "base semantic-segmentation image-classification",
        image_processor="SegformerImageProcessor",
    ),
    "siglip": _row(
        "siglip", "Siglip", "base image-classification zero-shot-image-classification", "SiglipTokenizer",
        "SiglipImageProcessor", processor="SiglipProcessor",
    ),
    "siglip_text_model": _row("siglip", "SiglipText", "base", "SiglipTokenizer"),
    "siglip_vision_model": _row("siglip", "SiglipVision", "base", image_processor="SiglipImageProcessor"),
    "swin": _row(
        "swin", "Swin", "base image-classification masked-image-modeling backbone", image_processor="ViTImageProcessor"
    ),
    "t5": _row(
        "t5", "T5", "base seq2seq-lm sequence-classification token-classification question-answering", "T5Tokenizer",
        pretraining="T5ForConditionalGeneration", text_encoding="T5EncoderModel",
    ),
    "vit": _row(
        "vit", "ViT", "base image-classification masked-image-modeling", image_processor="ViTImageProcessor"
    ),
    "wav2vec2": _row(
        "wav2vec2", "Wav2Vec2", "base pretraining ctc audio-frame-classification audio-xvector",
        "Wav2Vec2CTCTokenizer", feature_extractor="Wav2Vec2FeatureExtractor", processor="Wav2Vec2Processor",
        audio_classification="Wav2Vec2ForSequenceClassification",
    ),
    "whisper": _row(
        "whisper", "Whisper", "base causal-lm speech-seq2seq audio-classification", "WhisperTokenizer",
        feature_extractor="WhisperFeatureExtractor", processor="WhisperProcessor",
    ),
}  # fmt: skip

AUTO_CLASSES: dict[str, str] = {
    "AutoModel": "base",
    "AutoModelForPreTraining": "pretraining",
    "AutoModelForMaskedLM": "masked-lm",
    "AutoModelForCausalLM": "causal-lm",
    "AutoModelForNextSentencePrediction": "next-sentence-prediction",
    "AutoModelForSequenceClassification": "sequence-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
    "AutoModelForSeq2SeqLM": "seq2seq-lm",
    "AutoModelForTextEncoding": "text-encoding",
    "AutoModelForImageClassification": "image-classification",
    "AutoModelForMaskedImageModeling": "masked-image-modeling",
    "AutoModelForObjectDetection": "object-detection",
    "AutoModelForImageSegmentation": "image-segmentation",
    "AutoModelForSemanticSegmentation": "semantic-segmentation",
    "AutoModelForUniversalSegmentation": "universal-segmentation",
    "AutoBackbone": "backbone",
    "AutoModelForZeroShotImageClassification": "zero-shot-image-classification",
    "AutoModelForSpeechSeq2Seq": "speech-seq2seq",
    "AutoModelForCTC": "ctc",
    "AutoModelForAudioClassification": "audio-classification",
    "AutoModelForAudioFrameClassification": "audio-frame-classification",
    "AutoModelForAudioXVector": "audio-xvector",
}

TOKENIZERS = (
    "Bart", "Bert", "CLIP", "DistilBert", "Electra", "GPT2", "Llama", "MT5", "Roberta", "Siglip", "T5", "Whisper",
    "XLMRoberta",
)  # fmt: skip

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".wma", ".webm", ".mp4", ".mkv")
FEATURE_EXTRACTORS = ("AST", "Wav2Vec2", "Whisper")
PROCESSORS = ("CLIP", "Siglip", "Wav2Vec2", "Whisper")
IMAGE_PROCESSORS = ("Bit", "CLIP", "ConvNext", "DPT", "DeiT", "Detr", "Segformer", "Siglip", "ViT")

TASKS: dict[str, Task] = {
    "text-classification": Task(
        "text_classification", "TextClassificationPipeline", "AutoModelForSequenceClassification", "preset:sst2-electra"
    ),
    "token-classification": Task(
        "token_classification", "TokenClassificationPipeline", "AutoModelForTokenClassification",
        "dbmdz/bert-large-cased-finetuned-conll03-english", "4c53496",
    ),
    "question-answering": Task(
        "question_answering", "QuestionAnsweringPipeline", "AutoModelForQuestionAnswering",
        "distilbert/distilbert-base-cased-distilled-squad", "564e9b5",
    ),
    "text-generation": Task(
        "text_generation", "TextGenerationPipeline", "AutoModelForCausalLM", "openai-community/gpt2", "607a30d"
    ),
    "text2text-generation": Task(
        "text2text", "Text2TextGenerationPipeline", "AutoModelForSeq2SeqLM", "google-t5/t5-base", "a9723ea"
    ),
    "summarization": Task(
        "text2text", "SummarizationPipeline", "AutoModelForSeq2SeqLM", "sshleifer/distilbart-cnn-12-6", "a4f8f3e"
    ),
    "translation": Task(
        "text2text", "TranslationPipeline", "AutoModelForSeq2SeqLM", "google-t5/t5-base", "a9723ea"
    ),
    "fill-mask": Task(
        "fill_mask", "FillMaskPipeline", "AutoModelForMaskedLM", "distilbert/distilroberta-base", "fb53ab8"
    ),
    "zero-shot-classification": Task(
        "zero_shot", "ZeroShotClassificationPipeline", "AutoModelForSequenceClassification",
        "facebook/bart-large-mnli", "d7645e1",
    ),
    "image-classification": Task(
        "image", "ImageClassificationPipeline", "AutoModelForImageClassification", "google/vit-base-patch16-224",
        "3f49326",
    ),
    "image-segmentation": Task(
        "image", "ImageSegmentationPipeline",
        "AutoModelForImageSegmentation AutoModelForUniversalSegmentation AutoModelForSemanticSegmentation",
        "facebook/detr-resnet-50-panoptic", "d53b52a",
    ),
    "object-detection": Task(
        "image", "ObjectDetectionPipeline", "AutoModelForObjectDetection", "facebook/detr-resnet-50", "1d5f47b"
    ),
    "zero-shot-image-classification": Task(
        "zero_shot_image", "ZeroShotImageClassificationPipeline", "AutoModelForZeroShotImageClassification",
        "openai/clip-vit-base-patch32", "3d74acf",
    ),
    "automatic-speech-recognition": Task(
        "speech", "AutomaticSpeechRecognitionPipeline", "AutoModelForSpeechSeq2Seq AutoModelForCTC",
        "facebook/wav2vec2-base-960h", "22aad52",
    ),
    "audio-classification": Task(
        "audio", "AudioClassificationPipeline", "AutoModelForAudioClassification", "superb/wav2vec2-base-superb-ks",
        "372e048",
    ),
    "feature-extraction": Task(
        "feature_extraction", "FeatureExtractionPipeline", "AutoModel", "distilbert/distilbert-base-cased", "6ea8117"
    ),
    "image-feature-extraction": Task(
        "image", "ImageFeatureExtractionPipeline", "AutoModel", "google/vit-base-patch16-224", "3f49326"
    ),
}  # fmt: skip

TASK_ALIASES: dict[str, str] = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "translation_en_to_de": "translation",
    "translation_en_to_fr": "translation",
    "translation_en_to_ro": "translation",
}


def public_names() -> dict[str, str]:
    """The public names that follow from the lists above -> the modules that define them."""
    names = dict.fromkeys(["AutoConfig", *AUTO_CLASSES], "keras_models.auto")
    tokenizers = [f"{name}Tokenizer{end}" for name in TOKENIZERS for end in ("", "Fast")]
    names |= dict.fromkeys(tokenizers, "keras_models.preprocessing.tokenizer")
    processors = [
        "AutoImageProcessor",
        *(f"{name}ImageProcessor{end}" for name in IMAGE_PROCESSORS for end in ("", "Fast")),
    ]
    names |= dict.fromkeys(processors, "keras_models.preprocessing.image")
    extractors = ["AutoFeatureExtractor", *(f"{name}FeatureExtractor" for name in FEATURE_EXTRACTORS)]
    names |= dict.fromkeys(extractors, "keras_models.preprocessing.audio")
    united = ["AutoProcessor", *(f"{name}Processor" for name in PROCESSORS)]
    names |= dict.fromkeys(united, "keras_models.preprocessing.processor")
    for row in ARCHITECTURES.values():
        module = f"keras_models.models.{row.file}"
        names |= dict.fromkeys([row.config, *row.class_names], module)
    return names
