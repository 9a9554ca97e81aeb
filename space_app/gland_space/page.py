"""The whole page."""

from collections.abc import Collection
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from gland_space.about_tab import build_about_tab, header_html, no_model_html
from gland_space.api import build_api
from gland_space.demo import Demo
from gland_space.page_parts import DIRECT, examples, html_widget, static_text
from gland_space.picture_tabs import AnnotateTab, SegmentTab
from gland_space.server import Guard

TITLE = "Gland segmentation from a few outlined glands"
SESSIONS = 200  # that gradio remembers; each was measured to take about half a megabyte
SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]


def build_page(demo: Demo) -> gr.Blocks:
    """The page as gradio Blocks with its queue set up; `launch_options` says how to serve it."""
    found = examples()
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        html_widget(header_html(demo), "header")
        if demo.model is None:
            html_widget(no_model_html(demo.problem), "no-model-page")
        with gr.Tabs() as tabs:
            with gr.Tab("Segment", id="segment"):
                segment = SegmentTab(demo, found)
            with gr.Tab("Annotate", id="annotate"):
                AnnotateTab(demo, found, segment, tabs)
            with gr.Tab("About", id="about"):
                build_about_tab(demo)
        build_api(demo)

        def leave(request: gr.Request) -> None:
            for tab in ("segment", "annotate"):
                demo.tickets.call_off(f"{request.session_hash}/{tab}")

        page.unload(leave)
        if demo.example is not None:
            page.load(segment.show_example, None, segment.shown, **DIRECT)
    page.queue(max_size=demo.limits.queue_size, default_concurrency_limit=4)
    return page


def launch_options(demo: Demo, hosts: Collection[str] | None = ()) -> dict[str, Any]:
    """Arguments of `Blocks.launch` apart from the address: no outside fonts, no history, bounded sessions and uploads.

    `hosts`: names that the server answers to beside addresses and `localhost`; None: all.
    """
    theme = gr.themes.Base(primary_hue="emerald", secondary_hue="emerald", neutral_hue="slate", font=SYSTEM_FONTS,
                           font_mono=MONO_FONTS, radius_size="md").set(
        button_primary_background_fill="#00795a", button_primary_background_fill_hover="#006249",
        button_primary_background_fill_dark="#00795a", button_primary_background_fill_hover_dark="#00936e",
        body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500", link_text_color="#00795a",
        link_text_color_hover="#006249",
        button_primary_text_color="white", button_primary_text_color_dark="white", slider_color="#00795a",
        slider_color_dark="#35c99a")
    return {"theme": theme, "css": static_text("stage.css"), "footer_links": ["api", "settings"], "run_history": False,
            "enable_monitoring": False, "ssr_mode": False, "max_file_size": f"{demo.limits.max_file_mb}mb",
            "state_session_capacity": SESSIONS,
            "app_kwargs": {"middleware": [Middleware(Guard, folder=demo.folder, limits=demo.limits, hosts=hosts)]}}
