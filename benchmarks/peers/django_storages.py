"""Django's uploaded file passed to the default storage, django-storages' S3 storage.

Django, "File Uploads" and "Managing files"; django-storages, "Amazon S3": `STORAGES`.
"""

import os

import django
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    STORAGES={
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": {
                "bucket_name": os.environ["UPLOAD_BUCKET"],
                "endpoint_url": os.environ["UPLOAD_S3_ENDPOINT_URL"],
            },
        }
    },
)
django.setup()


@require_POST  # type: ignore[untyped-decorator] # Django ships no types
def upload(request: HttpRequest) -> JsonResponse:
    """Store a file under its name."""
    file = request.FILES["file"]
    return JsonResponse({"key": default_storage.save(file.name, file)}, status=201)


urlpatterns = [path("upload", upload)]
app = WSGIHandler()
